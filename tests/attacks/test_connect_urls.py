"""F7: `connect_urls` in the clear INFO led a client with `tls://` to a server of another name.

The attacker is on the path: it changes the INFO line, which is sent before TLS.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from warren_bus.client import PatchedClient
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_testkit.bus import RealServer, free_port
from warren_testkit.waiting import eventually


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RealServer]:
    async with RealServer(tmp_path) as running:
        yield running


class OnPath:
    """A relay to the real server that adds servers to its INFO, also later, and lets connections drop."""

    def __init__(self, server: RealServer, urls: list[str]) -> None:
        self._server, self._urls = server, urls
        self._writers: list[asyncio.StreamWriter] = []
        self.connections = 0

    def _changed(self, line: bytes) -> bytes:
        info = json.loads(line.removeprefix(b"INFO "))
        return b"INFO " + json.dumps({**info, "connect_urls": self._urls}).encode() + b"\r\n"

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server.port)
        self._writers += [writer, to_server]
        line = self._changed(await from_server.readline())
        writer.write(line)

        async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)

        forward = asyncio.create_task(copy(reader, to_server))
        while data := await from_server.read(65_536):
            writer.write(data)
            if b"PONG" in data:
                writer.write(line)  # an INFO of a connected server, too
        await forward

    def drop(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()


async def test_servers_that_an_attacker_names_are_never_dialled(server: RealServer) -> None:
    dialled: list[int] = []

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.append(1)
        writer.close()

    elsewhere = free_port()
    async with await asyncio.start_server(other, "127.0.0.1", elsewhere):
        path = OnPath(server, [f"127.0.0.1:{elsewhere}", f"localhost:{elsewhere}", "evil.example:4222"])
        async with await asyncio.start_server(path.relay, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            own = server.settings("policy")
            settings = BusSettings((f"nats://127.0.0.1:{port}",), own.nkey_file)
            async with Connection(settings, name="policy", inbox_prefix=inbox("policy")) as connection:
                for attempt in range(3):
                    client = await connection.wait_connected()
                    await client.flush()
                    assert [found.geturl() for found in client.servers] == [f"nats://127.0.0.1:{port}"]
                    assert client.discovered_servers == []
                    path.drop()

                    def returned(count: int = attempt + 1) -> bool:
                        return path.connections > count

                    await eventually(returned, what="it returns to its server")
            path.drop()
    assert dialled == []


@pytest.mark.parametrize("initial", [True, False])
async def test_an_info_adds_no_server(initial: bool) -> None:
    client = PatchedClient()
    client._setup_server_pool(["nats://127.0.0.1:4222"])
    client._current_server = client._server_pool[0]
    for urls in (["evil.example:4222"], ["192.0.2.1:4222", "[2001:db8::1]:4222"], []):
        await client._process_info({"connect_urls": urls, "tls_required": True}, initial)
    assert len(client._server_pool) == 1
    assert client._current_server.tls_name is None
