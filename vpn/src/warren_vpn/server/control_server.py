"""The server's end of the control socket. Only root and the server's own user are answered (SO_PEERCRED, unix(7))."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from warren_contracts.problems import invalid_input
from warren_contracts.socket_peer import user_of
from warren_vpn.server.control import MAX_REQUEST, REQUEST, ControlRefused, Reply, Request
from warren_vpn.server.errors import ServerError

_REQUEST_SECONDS = 5.0
_MAX_CONNECTIONS = 16


class ControlServer:
    """Make the socket with `listen`, then serve it in the event loop."""

    def __init__(self, path: Path, answer: Callable[[Request], Reply]) -> None:
        self._path, self._answer = path, answer
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listen. ServerError: another server answers there, or the path is unusable."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_unix_connection(self._path)
            writer.close()
            raise ServerError(f"{self._path}: another server answers there")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            mask = os.umask(0o177)
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(mask)
            self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST)
        except OSError as error:
            listener.close()
            raise ServerError(f"control: {self._path}: {error.strerror}") from None

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= _MAX_CONNECTIONS or not _may_control(writer):
            writer.close()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                line = await reader.readline()
                writer.write(self._reply(line).model_dump_json().encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ValueError, ConnectionError):  # too slow, too long, or gone
            pass
        finally:
            self._connections -= 1
            writer.close()

    def _reply(self, line: bytes) -> Reply:
        try:
            return self._answer(REQUEST.validate_json(line))
        except ValidationError as error:
            return ControlRefused(refused=invalid_input(error.errors(include_url=False)).detail)
        except ServerError as error:
            return ControlRefused(refused=str(error))


def _may_control(writer: asyncio.StreamWriter) -> bool:
    return user_of(writer.get_extra_info("socket")) in (0, os.geteuid())
