"""The guard's socket (`warren_contracts.guard`)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from warren_agent.drivers.port import Reply
from warren_agent.errors import GuardRefusedError, GuardUnavailableError
from warren_contracts.guard import MAX_LINE, GuardEvent, GuardReply, Request, WatchRequest
from warren_process.backoff import Backoff

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

LIMIT_S = 30.0  # the guard gives nft 20 s


class GuardClient:
    """One connection a request: they are rare."""

    def __init__(self, path: Path, random: Callable[[], float]) -> None:
        self._path = path
        self._backoff = Backoff(0.2, 5.0, random)

    async def ask(self, request: Request) -> GuardReply:
        """The reply to a request.

        Raises:
            GuardUnavailableError: the guard does not answer.
            GuardRefusedError: it cannot do it, and why.
        """
        return await self.exchange(request, GuardReply)

    async def exchange(self, request: BaseModel, reply: type[Reply]) -> Reply:
        """As `ask`, for requests that have a reply of their own: it has an `error` too."""
        try:
            async with asyncio.timeout(LIMIT_S), self._connected() as (reader, writer):
                return await _converse(reader, writer, request, reply)
        except (OSError, TimeoutError, ValueError) as error:
            raise GuardUnavailableError(f"{self._path}: {_reason(error)}: start warren-guard") from None

    async def events(self) -> AsyncIterator[GuardEvent | None]:
        """What happens, forever: None whenever the guard answers (again), so that anything may have changed."""
        while True:
            with contextlib.suppress(OSError, ValueError, GuardUnavailableError, GuardRefusedError):
                async with self._connected() as (reader, writer):
                    await _converse(reader, writer, WatchRequest(), GuardReply)
                    self._backoff.reset()
                    yield None
                    while line := await reader.readline():
                        yield _event(line)
            await asyncio.sleep(self._backoff.next_s())

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple["StreamReader", "StreamWriter"]]:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=MAX_LINE)
        try:
            yield reader, writer
        finally:
            writer.close()


async def _converse(reader: "StreamReader", writer: "StreamWriter", request: BaseModel, kind: type[Reply]) -> Reply:
    writer.write(request.model_dump_json().encode() + b"\n")
    await writer.drain()
    line = await reader.readline()
    if not line:
        raise GuardUnavailableError("the guard closed the connection: it admits root and its --agent-user only")
    reply = kind.model_validate_json(line)
    if error := getattr(reply, "error", ""):
        raise GuardRefusedError(error)
    return reply


def _event(line: bytes) -> GuardEvent:
    try:
        return GuardEvent.model_validate_json(line)
    except ValidationError as error:
        raise ValueError(f"no event: {error.error_count()} errors") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {LIMIT_S:g} s"
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
