"""A bus that a gateway reaches over a network of its own: addresses in a namespace, relayed to the test's server."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

from warren_lab.namespace import Namespace

PORT = 4222
_PIECE = 65_536


@contextlib.asynccontextmanager
async def relayed(namespace: Namespace, addresses: Sequence[str], port: int) -> AsyncIterator[None]:
    """Connections to PORT of these addresses of a namespace reach `port` of this process's loopback."""
    pumps: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        writers.append(outer)
        pumps.update(asyncio.create_task(_pump(*pair)) for pair in ((reader, outer), (inner, writer)))

    async with contextlib.AsyncExitStack() as stack:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = namespace.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, PORT))
            server = await asyncio.start_server(serve, sock=listener)
            stack.callback(server.close)
        try:
            yield
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for writer in writers:
                writer.transport.abort()
            await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
    writer.close()
