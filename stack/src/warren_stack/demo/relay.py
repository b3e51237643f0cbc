"""Bytes between a TCP port and a Unix socket: how the machine reaches a port inside the sandbox.

A socket file is seen from every network namespace; a port is not.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CHUNK_BYTES = 1 << 16


async def listen_unix(path: Path, host: str, port: int) -> asyncio.Server:
    """Inside: what arrives at the socket file goes to `host:port`."""
    return await asyncio.start_unix_server(_relay_to(lambda: asyncio.open_connection(host, port)), str(path))


async def listen_tcp(host: str, port: int, path: Path) -> asyncio.Server:
    """Outside: what arrives at `host:port` goes to the socket file."""
    return await asyncio.start_server(_relay_to(lambda: asyncio.open_unix_connection(str(path))), host, port)


def _relay_to(
    connect: Callable[[], Awaitable[Streams]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await connect()
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    return relay


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either side ends; the other is then closed."""
    with contextlib.suppress(OSError, asyncio.CancelledError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()
