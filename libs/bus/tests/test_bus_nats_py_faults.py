"""The faults of nats-py for which `PatchedClient` has an override, one test each, on the client as it is released.

A test that fails here says that the fault was corrected: then its override can go. `test_bus_dial.py` tests the overrides.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlparse

import pytest
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout

from warren_bus.client import PatchedClient
from warren_bus.headers import HEADER_REQUEST_INFO
from warren_testkit.waiting import eventually

BLOCK = (
    b"NATS/1.0\r\n"
    + b"".join(b"Warren-Header-%d: some value of this header\r\n" % number for number in range(15))
    + b"\r\n"
)
BROKEN = {"no status": b"N", "no text": b"NATS/1.0 \xff\xff\xff\r\nX: a\r\n\r\n"}
FORGED = b"NATS/1.0\r\nnats-request-info: {}\r\nNats-Request-Info: {}\r\n\r\n"


@dataclass
class ScriptedServer:
    """Speaks just enough of the protocol, and records what the client sends."""

    port: int = 0
    answers_pings: bool = True
    ends_at: bytes | None = None  # the line at which it ends the connection without a reply
    received: list[str] = field(default_factory=list)
    ended: int = 0  # connections of which it has read everything
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        info = {"server_id": "x", "version": "2.15.1", "max_payload": 1 << 20, "headers": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            self.received.append(line.decode().split(" ")[0].strip())
            if line == self.ends_at:
                break
            if line == b"PING\r\n" and self.answers_pings:
                writer.write(b"PONG\r\n")
        writer.close()
        self.ended += 1

    def send(self, text: bytes) -> None:
        self.writers[-1].write(text)


@asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedServer]:
    running = ScriptedServer()
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.port = server.sockets[0].getsockname()[1]
    async with server:
        yield running
        for writer in running.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@pytest.mark.parametrize(("kind", "closed"), [(Client, False), (PatchedClient, True)])
async def test_connect_to_server_forgets_the_open_socket_of_the_attempt_before(
    kind: type[Client], closed: bool
) -> None:
    """Only the garbage collector would close it, in those releases of Python whose StreamWriter has a `__del__`."""
    async with scripted() as server:
        client, writers = kind(), []
        client.options["connect_timeout"] = 60
        for _ in range(2):
            await client._connect_to_server(Srv(urlparse(server.url)))
            writers.append(client._transport._io_writer)  # type: ignore[union-attr]
        assert writers[0].is_closing() is closed
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("kind", [Client, PatchedClient])
async def test_connect_returns_although_the_connection_ended_before_a_reply(kind: type[Client]) -> None:
    async with scripted() as server:
        server.ends_at = b"PING\r\n"
        client = kind()
        if kind is PatchedClient:
            with pytest.raises(NatsError, match="did not answer the greeting"):
                await client.connect(server.url, allow_reconnect=False, connect_timeout=60)
        else:
            await client.connect(server.url, allow_reconnect=False, connect_timeout=60)
            assert not client.is_connected
        await client.close()


async def ignore(message: Msg) -> None:
    """A subscriber."""


@pytest.mark.parametrize("kind", [Client, PatchedClient])
async def test_close_raises_where_the_server_ends_the_connection_before_the_last_command(kind: type[Client]) -> None:
    async with scripted() as server:
        client = kind()
        await client.connect(server.url, allow_reconnect=False, connect_timeout=60)
        reading = client._reading_task
        assert reading is not None
        reading.cancel()  # it has not read the end yet
        await asyncio.gather(reading, return_exceptions=True)
        writer = client._transport._io_writer  # type: ignore[union-attr]
        writer.transport.abort()
        await writer.wait_closed()
        before = asyncio.all_tasks()
        await client.subscribe("any", cb=ignore)
        (task,) = asyncio.all_tasks() - before
        await client.publish("last")
        if isinstance(client, PatchedClient):
            await client.end(60)
            await asyncio.gather(task, return_exceptions=True)
        else:
            with pytest.raises(ConnectionResetError):
                await client.close()
            assert not task.cancelling()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("kind", [Client, PatchedClient])
async def test_connect_to_server_goes_on_with_a_client_that_was_closed_meanwhile(kind: type[Client]) -> None:
    async with scripted() as server:
        client = kind()
        client.options["connect_timeout"] = 60
        client._status = Client.CLOSED
        if kind is PatchedClient:
            with pytest.raises(asyncio.CancelledError):
                await client._connect_to_server(Srv(urlparse(server.url)))
        else:
            await client._connect_to_server(Srv(urlparse(server.url)))
            assert not client._transport._io_writer.transport.is_closing()  # type: ignore[union-attr]
            client._transport.close()  # type: ignore[union-attr]


async def test_connect_to_server_repeats_for_ever_without_a_server_although_the_client_was_closed() -> None:
    """The cancellation by `close` got lost: nats-py tries the next server, and the one after it, and so on."""
    client = PatchedClient()
    client._status = Client.CLOSED
    client.options["max_reconnect_attempts"] = -1
    client.options["reconnect_time_wait"] = 0
    client._server_pool.append(Srv(urlparse("nats://127.0.0.1:1")))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(client._select_next_server(), 60)
    assert client._server_pool[0].reconnects == 0


@pytest.mark.parametrize(("kind", "sent"), [(Client, ["CONNECT", "PING"]), (PatchedClient, [])])
async def test_connect_command_is_sent_in_clear_although_the_url_begins_with_tls(
    kind: type[Client], sent: list[str]
) -> None:
    async with scripted() as server:
        client = kind()
        with suppress(Exception):  # only what was sent matters
            await client.connect(server.url.replace("nats://", "tls://"), allow_reconnect=False, connect_timeout=60)
        await client.close()
        await eventually(lambda: server.ended == 1)
        assert server.received == sent


def test_close_socket_is_a_name_of_ours() -> None:
    """It overrides nothing: a method of this name in nats-py would be replaced by accident."""
    assert not hasattr(Client, "_close_socket")


@pytest.mark.parametrize(("kind", "sent"), [(Client, ["PING", "SUB"]), (PatchedClient, ["SUB", "PING"])])
async def test_send_ping_overtakes_what_flush_should_flush(kind: type[Client], sent: list[str]) -> None:
    async with scripted() as server:
        client = kind()
        await client.connect(server.url, connect_timeout=60)
        server.received.clear()
        await client.subscribe("a")
        await client.flush()
        await eventually(lambda: len(server.received) == 2)
        assert server.received == sent
        await client.close()


@pytest.mark.parametrize(("kind", "reader_ended"), [(Client, True), (PatchedClient, False)])
async def test_process_pong_ends_the_reader_when_nobody_waits_for_it(kind: type[Client], reader_ended: bool) -> None:
    async with scripted() as server:
        client = kind()
        await client.connect(server.url, connect_timeout=60)
        server.answers_pings = False
        with pytest.raises(NatsTimeout):
            await client.flush(timeout=0.05)  # type: ignore[arg-type]
        reading = client._reading_task
        assert reading is not None
        server.send(b"PONG\r\nPING\r\n")  # a client that goes on reading answers what comes next
        await eventually(lambda: reading.done() or "PONG" in server.received)
        assert reading.done() is reader_ended
        await client.close()


@pytest.mark.parametrize("kind", [Client, PatchedClient])
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="wait_for of Python 3.12 keeps a cancellation")
async def test_request_loses_a_cancellation_that_comes_with_the_reply(kind: type[Client]) -> None:
    async with scripted() as server:
        client = kind()
        await client.connect(server.url, connect_timeout=60)
        asking = asyncio.create_task(client.request("a", timeout=60))
        await eventually(lambda: client._resp_map)
        (reply,) = client._resp_map.values()
        reply.set_result(Msg(client, "a"))
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled() is (kind is PatchedClient)
        await client.close()


@pytest.mark.parametrize("kind", [Client, PatchedClient])
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="wait_for of Python 3.12 keeps a cancellation")
async def test_flush_loses_a_cancellation_that_comes_with_the_pong(kind: type[Client]) -> None:
    async with scripted() as server:
        client = kind()
        await client.connect(server.url, connect_timeout=60)
        server.answers_pings = False
        flushing = asyncio.create_task(client.flush(60))
        await eventually(lambda: client._pongs)
        client._pongs[0].set_result(True)
        flushing.cancel()
        await asyncio.wait({flushing})
        assert flushing.cancelled() is (kind is PatchedClient)
        await client.close()


@pytest.mark.parametrize("kind", [Client, PatchedClient])
async def test_flush_pending_suppresses_a_cancellation(kind: type[Client]) -> None:
    async with scripted() as server:
        client = kind()
        await client.connect(server.url, connect_timeout=60)
        assert client._flusher_task is not None
        client._flusher_task.cancel()
        await asyncio.wait({client._flusher_task})
        client._flusher_task = asyncio.create_task(asyncio.Event().wait())  # one that takes nothing: the next one waits
        queue = asyncio.Queue[asyncio.Future[object]](1)
        client._flush_queue = queue
        queue.put_nowait(asyncio.get_running_loop().create_future())
        publishing = asyncio.create_task(client._flush_pending())
        await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.wait({publishing})
        assert publishing.cancelled() is (kind is PatchedClient)
        queue.get_nowait()
        await client.close()


@pytest.mark.parametrize("block", BROKEN.values(), ids=BROKEN)
async def test_process_headers_raises_at_a_block_that_it_cannot_read(block: bytes) -> None:
    """In the client this ends its reader: it receives nothing until two pings are missed."""
    with pytest.raises((LookupError, ValueError)):
        await Client()._process_headers(block)
    assert HEADER_REQUEST_INFO in (await PatchedClient()._process_headers(block) or {})


async def test_process_headers_takes_the_callers_word_for_the_servers() -> None:
    assert (await Client()._process_headers(FORGED) or {})[HEADER_REQUEST_INFO] == "{}"
    assert (await PatchedClient()._process_headers(FORGED) or {})[HEADER_REQUEST_INFO] != "{}"


def test_parse_header_lines_costs_more_than_ours() -> None:
    """2.4 times the time and 6.7 times the calls with nats-py 2.16.0; below 3 times the override is not worth its lines."""

    def calls(kind: type[Client]) -> int:
        counted, before = 0, sys.getprofile()

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal counted
            counted += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            kind._parse_header_lines(BLOCK)
        finally:
            sys.setprofile(before)
        return counted

    assert calls(Client) > 3 * calls(PatchedClient)
