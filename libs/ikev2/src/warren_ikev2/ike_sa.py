"""One IKE_SA: its state, its two message windows and its queue of requests (RFC 7296, 2.1 to 2.4).

Requests: as many at a time as the peer's window allows, retransmitted bit for bit until answered (`retransmission`). Responses:
as many as our window has are stored, and sent again when their requests are repeated. The meaning of messages is in `exchanges`
(Tasks for our requests, handlers for the peer's) and `dispatch` (the table of states).
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol

from warren_ikev2.addresses import Datagram, Path
from warren_ikev2.configuration import EndpointConfiguration
from warren_ikev2.constants import NON_ESP_MARKER, ExchangeType, HeaderFlag, PayloadType
from warren_ikev2.crypto.keys import IkeKeys
from warren_ikev2.errors import IntegrityError
from warren_ikev2.events import DeleteReason, Event, State, StateChanged
from warren_ikev2.fragments import FragmentBudget, IncompleteMessages, datagram_capacity, seal
from warren_ikev2.handshake import Handshake
from warren_ikev2.identity import Identity
from warren_ikev2.leases import AddressLeases
from warren_ikev2.protection import MessageProtection
from warren_ikev2.randomness import RandomBytes
from warren_ikev2.session import SessionState
from warren_ikev2.suites import IkeSuite
from warren_ikev2.window import Outstanding, ReceiveWindow, SendWindow
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import Message, Payloads, build_chain, build_message
from warren_ikev2.wire.payloads import Payload

LINGER = 10.0  # seconds that a closed IKE_SA still repeats its last response


class IkeSaHost(Protocol):
    """What an IKE_SA needs from its endpoint."""

    configuration: EndpointConfiguration
    random_bytes: RandomBytes
    leases: AddressLeases
    utc_now: Callable[[], datetime]
    unauthenticated_fragments: FragmentBudget
    authenticated_fragments: FragmentBudget

    def emit(self, event: Event) -> None:
        """Queue an event."""

    def send(self, datagram: Datagram) -> None:
        """Queue a datagram."""

    def new_ike_spi(self) -> bytes:
        """An unused SPI of 8 bytes."""

    def new_child_spi(self, session: "IkeSession") -> int:
        """Reserve an unused ESP SPI for the session, until its end or until some time after its CHILD_SA was deleted."""

    def add(self, sa: "IkeSa") -> None:
        """Route messages to a new IKE_SA."""

    def touch(self, sa: "IkeSa") -> None:
        """Compute an IKE_SA's deadline again; needed for others than the one that a message or timer was for."""

    def remove(self, sa: "IkeSa") -> None:
        """Stop routing messages to an IKE_SA."""

    def end(self, session: "IkeSession", reason: DeleteReason, now: float) -> None:
        """End a session: report its CHILD_SAs and itself as deleted."""

    def established(self, session: "IkeSession") -> None:
        """Index a session whose peer has authenticated by the peer's identity."""

    def sessions_with(self, identity: Identity, user: str | None = None) -> Sequence["IkeSession"]:
        """Return the established sessions whose peer has this identity or, with `user`, is this user of EAP."""

    def sessions_of(self, user: str) -> Sequence["IkeSession"]:
        """Return the established sessions of a user (`PeerSettings.user`), whatever each peer has proved."""


class Task(Protocol):
    """An exchange that we begin."""

    exchange: ClassVar[ExchangeType]
    exclusive: ClassVar[bool]
    """See `window.WindowedRequest`."""

    def build(self, sa: "IkeSa", now: float) -> Sequence[Payload] | None:
        """Return the payloads of the request, or None if it is no longer needed."""

    def handle(self, sa: "IkeSa", payloads: Payloads, now: float) -> None:
        """Handle the response."""


class Followup(Protocol):
    """A CREATE_CHILD_SA that waits for additional key exchanges."""

    def advance(self, sa: "IkeSa", payloads: Payloads, now: float) -> Sequence[Payload]:
        """Return the response to the next IKE_FOLLOWUP_KE."""


@dataclass(slots=True, eq=False)
class IkeSa:
    """See the module."""

    host: IkeSaHost
    session: "IkeSession"
    initiator: bool
    """Whether we are the original initiator of this IKE_SA (the I flag)."""
    spi_i: bytes
    spi_r: bytes = bytes(8)
    state: State = State.CREATED
    protection: MessageProtection = field(default_factory=MessageProtection)
    handshake: Handshake | None = None
    """Until established."""
    rekey_at: float | None = None
    over_at: float | None = None
    expires_at: float | None = None
    """Half-open, lingering or redundant: removed then."""
    successor: "IkeSa | None" = None
    queue: deque[Task] = field(default_factory=deque)
    delayed: list[tuple[float, Task]] = field(default_factory=list)
    sending: SendWindow[Task] = field(default_factory=SendWindow)
    receiving: ReceiveWindow = field(default_factory=ReceiveWindow)
    newest_update: int = -1
    newest_list: int = -1
    """Message ids of the peer's newest UPDATE_SA_ADDRESSES and address list; older ones that arrive later are ignored."""
    answering: int = 0
    """The message id of the request that is being answered."""
    incomplete: IncompleteMessages = field(init=False)
    deleted_spis: set[int] = field(default_factory=set)
    """SPIs of the peer that it deleted while requests of ours were outstanding: a pending response may still name them."""
    followups: dict[bytes, Followup] = field(default_factory=dict)
    """As responder: pending key exchanges of CREATE_CHILD_SA, by the link that the peer must name (RFC 9370)."""
    scheduled: float | None = None
    """When the endpoint's timer for this IKE_SA expires; set by `timers`."""

    def __post_init__(self) -> None:
        limits = self.host.configuration.limits
        budget = self.host.authenticated_fragments if self.session.established else self.host.unauthenticated_fragments
        self.incomplete = IncompleteMessages(limits.fragments, limits.message_size, budget)

    @property
    def own_spi(self) -> bytes:
        """The SPI that we chose."""
        return self.spi_i if self.initiator else self.spi_r

    @property
    def alive(self) -> bool:
        """Whether it can still carry requests of ours."""
        return self.state not in (State.CLOSED, State.DELETING)

    def use_keys(self, suite: IkeSuite, keys: IkeKeys) -> None:
        """Protect messages with these keys from now on."""
        self.protection.use(suite, keys, self.host.random_bytes, initiator=self.initiator)

    def transition(self, new: State, trigger: str) -> None:
        """Change the state and report it."""
        old, self.state = self.state, new
        if old != new:
            self.host.emit(StateChanged(self.session.id, self.spi_i, self.spi_r, old, new, trigger))

    # Requests of ours

    def enqueue(self, task: Task, now: float) -> None:
        """Send the task's request as soon as the window allows."""
        self.queue.append(task)
        self.pump(now)

    def delay(self, task: Task, until: float) -> None:
        """Enqueue the task later, over the IKE_SA's successor if it has one."""
        current = self.session.ike_sa
        target = current if self.state == State.REKEYED and current is not None else self
        target.delayed.append((until, task))
        self.host.touch(target)

    def open_windows(self, own: int, peers: int) -> None:
        """Apply both sides' SET_WINDOW_SIZE (RFC 7296, 2.3): ours as announced, the peer's up to our `max_outstanding`."""
        self.receiving.grow(own)
        self.incomplete.requests.max_messages = self.receiving.size
        self.sending.grow(min(peers, self.session.connection.max_outstanding))
        self.incomplete.responses.max_messages = self.sending.size

    def pump(self, now: float) -> None:
        """Send queued requests as far as the window allows."""
        while self.queue and self.sending.admits(self.queue[0]) and self.state != State.CLOSED:
            task = self.queue.popleft()
            payloads = task.build(self, now)
            if payloads is not None:
                self._send_request(task, payloads, now)

    def _send_request(self, task: Task, payloads: Sequence[Payload], now: float) -> None:
        message_id = self.sending.take_id()
        messages = self.protect(task.exchange, message_id, payloads, response=False)
        resend_at = now + self.session.connection.retransmission.delay(1)
        self.sending.outstanding[message_id] = Outstanding(task, message_id, messages, resend_at)
        self.transmit(messages, self.session.path, now)

    def protect(
        self, exchange: ExchangeType, message_id: int, payloads: Sequence[Payload], *, response: bool
    ) -> list[bytes]:
        """Build a message, encrypted unless it is IKE_SA_INIT, and fragmented if necessary."""
        flags = (HeaderFlag.INITIATOR if self.initiator else 0) | (HeaderFlag.RESPONSE if response else 0)
        header = Header(self.spi_i, self.spi_r, exchange, flags, message_id)
        if exchange == ExchangeType.IKE_SA_INIT:
            return [build_message(header, payloads)]
        if self.protection.outbound is None:
            raise AssertionError("no keys to protect a message with")
        first, chain = build_chain(payloads)
        if self.handshake is not None and exchange == ExchangeType.IKE_INTERMEDIATE:
            suite, keys = self.protection.suite_and_keys()
            self.handshake.add_intermediate(suite.prf, keys, header, first, chain)
        return seal(self.protection.outbound, header, first, chain, self._capacity())

    def _capacity(self) -> int | None:
        size = self.session.connection.fragment_size
        return datagram_capacity(size, self.session.path) if size and self.session.peer.fragmentation else None

    def transmit(self, messages: list[bytes], path: Path, now: float) -> None:
        """Send messages over a path, with the non-ESP marker where its port needs it."""
        marker = b"" if path.local.port == self.host.configuration.ike_port else NON_ESP_MARKER
        self.session.last_outbound = now
        for message in messages:
            self.host.send(Datagram(marker + message, path))

    def resend(self, now: float) -> None:
        """Send the outstanding requests again over the session's path."""
        for outstanding in self.sending:
            self.transmit(outstanding.messages, self.session.path, now)

    def restart(self, task: Task, now: float) -> None:
        """Begin IKE_SA_INIT again with message id 0 (RFC 7296, 2.6)."""
        self.sending.restart()
        self.enqueue(task, now)

    def answer_arrived(self, message_id: int) -> Task | None:
        """Remove our request from the window; the caller passes the response to the task."""
        outstanding = self.sending.outstanding.pop(message_id, None)
        self.incomplete.responses.discard(message_id)
        return outstanding.task if outstanding is not None else None

    # The peer's requests

    def respond(
        self, exchange: ExchangeType, message_id: int, payloads: Sequence[Payload], path: Path, now: float
    ) -> None:
        """Respond to a request over the path of the request, and store the response."""
        messages = self.protect(exchange, message_id, payloads, response=True)
        self.receiving.store(message_id, messages)
        self.incomplete.requests.discard(message_id)
        self.transmit(messages, path, now)

    def repeat_response(self, message_id: int, path: Path, now: float) -> None:
        """Send a stored response again."""
        self.transmit(self.receiving.answers.get(message_id, []), path, now)

    # Received messages

    def open(self, message: Message) -> tuple[int, bytes] | None:
        """Decrypt a message: the type of the first payload, and the payloads' bytes; None while fragments are missing.

        IntegrityError: to be dropped silently. MalformedMessageError: authentic, but malformed.
        """
        part = message.encrypted
        if part is None:
            raise IntegrityError("not protected")
        plaintext = self.protection.open(part)
        if part.type == PayloadType.SK:
            return part.next_payload, plaintext
        return self.incomplete.add(message.header, part, plaintext)

    # The end

    def close(self, reason: DeleteReason, trigger: str, now: float) -> None:
        """End the IKE_SA at once, without a message to the peer."""
        self._stop(reason, trigger, now)
        self.host.remove(self)

    def linger(self, reason: DeleteReason, trigger: str, now: float) -> None:
        """End the IKE_SA, but repeat its last response for a while."""
        self._stop(reason, trigger, now)
        self.expires_at = now + LINGER

    def dismiss(self, farewell: Task, reason: DeleteReason, now: float) -> None:
        """End the session at once, and let the peer know by `farewell`: the IKE_SA stays until its answer, LINGER seconds at most.

        The request is sent after what the present call sends, as the response to the login that replaces the session.
        """
        self.host.end(self.session, reason, now)
        self.queue.clear()
        for outstanding in self.sending:
            outstanding.discarded = True
        self.transition(State.DELETING, reason.value)
        self.rekey_at = self.over_at = None
        self.expires_at = now + LINGER
        self.delayed = [(now, farewell)]
        self.host.touch(self)

    def _stop(self, reason: DeleteReason, trigger: str, now: float) -> None:
        if self.state == State.CLOSED:
            return
        self.transition(State.CLOSED, trigger)
        if self.session.ike_sa is self:
            self.host.end(self.session, reason, now)
        self.queue.clear()
        self.delayed.clear()
        self.sending.outstanding.clear()
        self.incomplete.clear()
        self.handshake = None
        self.rekey_at = self.over_at = None


IkeSession = SessionState[IkeSa]
