"""The port of the API server: the bus."""

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import BaseModel

ReplyT = TypeVar("ReplyT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One message of the stream EVENT: its sequence in the stream, its CloudEvents headers, its payload (JSON)."""

    sequence: int
    subject: str
    headers: dict[str, str]
    data: bytes


class Bus(Protocol):
    """Calls of services and the stream of events."""

    @property
    def is_connected(self) -> bool: ...

    async def answers(self) -> bool:
        """Whether the server answers: a connection to one that hangs stays open for minutes."""
        ...

    async def callout_answers(self) -> bool:
        """Whether a new connection to the bus would be accepted or refused in time."""
        ...

    async def call(
        self, service: str, verb: str, request: BaseModel, reply: type[ReplyT], timeout: float = ...
    ) -> ReplyT:
        """Call a service. Raises the WarrenError of its reply; BusUnavailableError or UnavailableError without a reply."""
        ...

    def events(self, after: int | None, kinds: Collection[str]) -> AsyncGenerator[StoredEvent | None, None]:
        """Events after a sequence (None: from now on) of these kinds (none: all), forever.

        None is a keep-alive; the first one means that every event stored so far was sent. It continues where it was when the bus
        returns.
        """
        ...
