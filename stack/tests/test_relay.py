"""The relay between a port and a socket file, with real sockets."""

import asyncio
from pathlib import Path

from warren_lab.runtime import make_runtime_folder
from warren_stack.demo.relay import listen_tcp, listen_unix


async def _upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def test_relay_carries_bytes_both_ways_and_the_end() -> None:
    folder = make_runtime_folder()
    path = folder / "s"
    try:
        async with (
            await asyncio.start_server(_upper, "127.0.0.1", 0) as service,
            await listen_unix(path, "127.0.0.1", _port(service)),
            await listen_tcp("127.0.0.1", 0, path) as listener,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", _port(listener))
            writer.write(b"hello\n")
            assert await reader.readline() == b"HELLO\n"
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 60) == b""
            writer.close()
            await writer.wait_closed()
    finally:
        path.unlink(missing_ok=True)
        folder.rmdir()


async def test_relay_closes_where_nobody_listens(tmp_path: Path) -> None:
    async with await listen_tcp("127.0.0.1", 0, tmp_path / "none") as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(listener))
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        await writer.wait_closed()
