"""A control socket: a Unix socket that answers a line with a line, to root and its own user only. The only implementation.

The agent, the VPN server and its client have one each.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic

from warren_process.socket_peer import user_of

MAX_CONNECTIONS = 16
LINE_LIMIT_S = 5.0
"""For a request to arrive, and for its answer to be taken."""

Answer = Callable[[bytes], Awaitable[bytes]]


class ControlSocket:
    """One request a connection. `answer` makes the line of a reply; ValueError: the connection is closed without one.

    A request of more than `max_line` bytes arrives as an empty line.
    """

    def __init__(self, path: Path, answer: Answer, *, max_line: int) -> None:
        self.path = path
        self._answer = answer
        self._max_line = max_line
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listen, in the place of a socket that a killed process has left. OSError."""
        self.path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self.path, limit=self._max_line)
        finally:
            os.umask(mask)

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MAX_CONNECTIONS or not _may_control(writer.get_extra_info("socket")):
            writer.close()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(LINE_LIMIT_S):
                line = await _read_line(reader)
            reply = await self._answer(line)
            writer.write(reply + b"\n")
            async with asyncio.timeout(LINE_LIMIT_S):
                await writer.drain()
        except (TimeoutError, ValueError, RecursionError, ConnectionError):  # too slow, not a request, or gone
            pass
        finally:
            self._connections -= 1
            writer.close()


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:
        return b""


def _may_control(connection: socket.socket) -> bool:
    return user_of(connection) in (0, os.geteuid())


def exchange(path: Path, line: bytes, *, limit_s: float, max_reply: int) -> bytes:
    """Send a request and return the reply: empty if the socket is closed without one, as for a user who may not ask.

    Who answers is not trusted to be short or quick.

    Raises:
        OSError: no process answers there, or the whole takes more than `limit_s` seconds.
        ValueError: the reply has more than `max_reply` bytes.
    """
    deadline = monotonic() + limit_s
    received = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(limit_s)
        connection.connect(str(path))
        try:
            connection.sendall(line + b"\n")
            while part := connection.recv(1 << 20):
                received += part
                if len(received) > max_reply:
                    raise ValueError(f"an answer of more than {max_reply:,} bytes")
                left = deadline - monotonic()
                if left <= 0:
                    raise TimeoutError
                connection.settimeout(left)
        except (ConnectionResetError, BrokenPipeError):
            return b""
    return bytes(received)
