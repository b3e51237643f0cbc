"""What the door needs of the bus."""

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import BaseModel

ReplyT = TypeVar("ReplyT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One message of the stream EVENT: its place in the stream, its CloudEvents headers, its payload (JSON)."""

    sequence: int
    subject: str
    headers: dict[str, str]
    data: bytes


class Bus(Protocol):
    """Calls of services and the stream of events."""

    @property
    def is_connected(self) -> bool: ...

    async def answers(self) -> bool:
        """Whether the server itself answers now: a connection to one that hangs stays for minutes."""
        ...

    async def callout_answers(self) -> bool:
        """Whether whoever connects to the bus now would be answered."""
        ...

    async def call(
        self, service: str, verb: str, request: BaseModel, reply: type[ReplyT], timeout: float = ...
    ) -> ReplyT:
        """Ask a service. Raises the WarrenError that it answered with; BusUnavailableError or Unavailable when nobody answers."""
        ...

    def events(self, after: int | None, kinds: Collection[str]) -> AsyncGenerator[StoredEvent | None, None]:
        """Events after a sequence (None: from now on) of these kinds (none: all), forever.

        None is a sign of life; the first one says that everything stored so far has been told. It goes on where it was
        when the bus returns.
        """
        ...
