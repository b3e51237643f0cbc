"""The guard's socket: who may speak on it, and its framing (`warren_contracts.guard`)."""

import asyncio
import contextlib
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Annotated

import structlog
from pydantic import Field, TypeAdapter, ValidationError

from warren_contracts.guard import MAX_LINE, GuardEvent, GuardReply, Request, WatchRequest
from warren_contracts.leftovers import LeftoversReply, LeftoversRequest, RemoveLeftoversRequest
from warren_contracts.problems import invalid_input
from warren_contracts.tunnel_routes import TunnelRoutesReply, TunnelRoutesRequest
from warren_guard.errors import BadRequestError, BadSettingError
from warren_guard.guard import Guard
from warren_process.socket_peer import user_of

log = structlog.get_logger("warren_guard")

MAX_CONNECTIONS = 16  # an agent has one, `release` another
LeftoverRequest = LeftoversRequest | RemoveLeftoversRequest
AnyRequest = Request | LeftoverRequest | TunnelRoutesRequest
_REQUEST: TypeAdapter[AnyRequest] = TypeAdapter(Annotated[AnyRequest, Field(discriminator="request")])
_KINDS = "held, inspect, leftovers, protect, release, remove-leftovers, tunnel-routes, watch"


class GuardServer:
    """Serves the socket to processes of the allowed users."""

    def __init__(self, guard: Guard, path: Path, users: Collection[int]) -> None:
        self._guard, self._path = guard, path
        self._users = frozenset(users)
        self._connections = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listen until left.

        Raises:
            BadSettingError: the socket cannot be made.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            listener = _bind(self._path, self._users)
        except OSError as error:
            raise BadSettingError(f"socket: {self._path}: {error.strerror}: choose one with --socket") from None
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE)
        try:
            yield
        finally:
            server.close()
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        user = user_of(writer.get_extra_info("socket"))
        if user not in self._users or self._connections >= MAX_CONNECTIONS:
            log.warning("guard.connection_refused", user=user, connections=self._connections)
            writer.close()
            return
        self._connections += 1
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the end of the guard; asyncio would log it as a defect
                await self._converse(reader, writer)
        except (OSError, ValueError) as error:  # gone, or a line that is too long
            log.info("guard.connection_closed", error=str(error))
        finally:
            self._connections -= 1
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sending: asyncio.Task[None] | None = None
        with contextlib.ExitStack() as stack:
            try:
                while line := await reader.readline():
                    try:
                        request = parse_request(line)
                    except BadRequestError as error:
                        log.warning("guard.bad_request", error=str(error))
                        await _send(writer, GuardReply(error=str(error)[:1_000]))
                        continue
                    if isinstance(request, WatchRequest) and sending is None:
                        queue = stack.enter_context(self._guard.watching())
                        await _send(writer, await self._guard.handle(request))
                        sending = asyncio.create_task(_forward(queue, writer))
                    elif isinstance(request, LeftoverRequest):
                        await _send(writer, await self._guard.handle_leftovers(request))
                    elif isinstance(request, TunnelRoutesRequest):
                        await _send(writer, await self._guard.handle_routes(request))
                    else:
                        await _send(writer, await self._guard.handle(request))
            finally:
                if sending is not None:
                    sending.cancel()


def parse_request(line: bytes) -> AnyRequest:
    """A request from its line. BadRequestError names the first wrong field."""
    try:
        return _REQUEST.validate_json(line)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        if str(errors[0]["type"]).startswith("union_tag"):
            raise BadRequestError(f"request: must be one of {_KINDS}") from None
        first = invalid_input(errors).errors[0]
        raise BadRequestError(f"{first.field}: {first.message}") from None


async def _forward(queue: asyncio.Queue[GuardEvent], writer: asyncio.StreamWriter) -> None:
    while True:
        await _send(writer, await queue.get())


async def _send(
    writer: asyncio.StreamWriter, document: GuardReply | LeftoversReply | TunnelRoutesReply | GuardEvent
) -> None:
    writer.write(document.model_dump_json().encode() + b"\n")
    await writer.drain()


def _bind(path: Path, users: Collection[int]) -> socket.socket:
    """A listening socket; the file's mode admits root and one user, and SO_PEERCRED decides.

    It gets its name when it listens: a client that finds it is not refused. That replaces what a killed guard has left.
    """
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is not a socket")
    new = path.with_name(".new")
    new.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        former = os.umask(0o177)
        try:
            listener.bind(str(new))
        finally:
            os.umask(former)
        others = sorted(set(users) - {os.geteuid()})
        if others:
            new.chmod(0o666)
        listener.listen(MAX_CONNECTIONS)
        new.replace(path)
    except OSError:
        listener.close()
        raise
    return listener
