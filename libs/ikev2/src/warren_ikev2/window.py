"""The two message windows of an IKE_SA (RFC 7296, 2.1 to 2.3).

Ours to the peer: a request X is sent once all requests up to X - N are answered, N being the peer's SET_WINDOW_SIZE; it is
stored and retransmitted bit for bit until then. The peer's to us: with our own window N and E the lowest id not yet answered,

    E <= id < E + N, not answered   fresh: answered in whatever order it arrives
    answered, among the newest N    repeated: the stored response is sent again, byte for byte
    received, response deferred     pending: no response until it is made
    else                            outside: no response

Both begin at 1 with each new IKE_SA, also after rekeying, and only grow.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar


class WindowedRequest(Protocol):
    """What the window has to know of a request."""

    @property
    def exclusive(self) -> bool:
        """Whether no other request may be outstanding with it, where the order matters."""


T = TypeVar("T", bound=WindowedRequest)


@dataclass(slots=True)
class Outstanding(Generic[T]):
    """A request of ours without an answer."""

    task: T
    message_id: int
    messages: list[bytes]
    """As sent: several if the request is fragmented."""
    resend_at: float
    sent: int = 1
    probed: bool = False
    """Whether it was sent over several paths, so that an answer shows which of them works."""
    discarded: bool = False
    """Whether the answer matters only to the window: the session has ended meanwhile."""


@dataclass(slots=True)
class SendWindow(Generic[T]):
    """Our requests."""

    size: int = 1
    next_id: int = 0
    outstanding: dict[int, Outstanding[T]] = field(default_factory=dict)
    """By message id, oldest first."""

    def __iter__(self) -> Iterator[Outstanding[T]]:
        return iter(self.outstanding.values())

    def __bool__(self) -> bool:
        """Whether a request is outstanding."""
        return bool(self.outstanding)

    @property
    def tasks(self) -> list[T]:
        """Whose requests are outstanding."""
        return [outstanding.task for outstanding in self]

    def admits(self, task: T) -> bool:
        """Whether a request may be sent now: the peer's window has space, and neither it nor an outstanding one is exclusive."""
        if not self.outstanding:
            return True
        has_space = self.next_id < min(self.outstanding) + self.size
        return has_space and not task.exclusive and not any(other.exclusive for other in self.tasks)

    def grow(self, size: int) -> None:
        """Enlarge the window; it never shrinks."""
        self.size = max(self.size, size)

    def take_id(self) -> int:
        """The id of the next request."""
        message_id, self.next_id = self.next_id, self.next_id + 1
        return message_id

    def restart(self) -> None:
        """Begin again with id 0."""
        self.outstanding.clear()
        self.next_id = 0


class Place(Enum):
    """The position of a request of the peer in our window."""

    FRESH = "fresh"
    REPEATED = "repeated"
    PENDING = "pending"
    OUTSIDE = "outside"


@dataclass(slots=True)
class ReceiveWindow:
    """The peer's requests."""

    size: int = 1
    lowest: int = 0
    """The lowest id not yet answered."""
    answers: dict[int, list[bytes]] = field(default_factory=dict)
    """The stored responses, of the newest `size` ids."""
    deferred: int | None = None
    """The request whose response is not made yet; only during a handshake, whose window is 1."""

    def place(self, message_id: int) -> Place:
        """Classify a request by its message id."""
        if message_id in self.answers:
            return Place.REPEATED
        if message_id == self.deferred:
            return Place.PENDING
        return Place.FRESH if self.lowest <= message_id < self.lowest + self.size else Place.OUTSIDE

    def grow(self, size: int) -> None:
        """Enlarge the window; it never shrinks."""
        self.size = max(self.size, size)

    def store(self, message_id: int, messages: list[bytes]) -> None:
        """Store the response to a request.

        A peer that sends request H has all responses up to H - N, so those are discarded.
        """
        self.answers[message_id] = messages
        if message_id == self.deferred:
            self.deferred = None
        while self.lowest in self.answers:
            self.lowest += 1
        newest = max(self.answers)
        for old in [known for known in self.answers if known <= newest - self.size]:
            del self.answers[old]
