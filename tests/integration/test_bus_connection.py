"""The supervised connection against a real server and a callout that misbehaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.errors import NotConnectedError
from warren_bus.settings import BusSettings
from warren_testkit.bus import GrantingCallout, RealServer, free_port
from warren_testkit.waiting import eventually
from warren_trust.errors import InvalidKeyError

LIMIT = 60.0  # s
PING_AFTER = 2.6  # s; the server's first PING comes 2 s after a connect, before the answer to a slower authorization


@pytest.fixture
async def callout(server: RealServer) -> AsyncIterator[GrantingCallout]:
    async with GrantingCallout(server) as running:
        yield running


def agent(server: RealServer, callout: GrantingCallout, peer: str = "gw1") -> Connection:
    settings, nkey = server.new_agent(peer)
    callout.enrol(nkey, peer, ())
    return Connection(settings, name=peer, inbox_prefix=inbox(peer))


async def slow_once(callout: GrantingCallout) -> None:
    """The next authorization takes longer than the server's first PING, the later ones do not."""

    async def slow() -> None:
        callout.delay = None
        await asyncio.sleep(PING_AFTER)

    callout.delay = slow


async def test_connect_that_returns_without_being_connected_is_a_habit_of_the_client(
    server: RealServer, callout: GrantingCallout
) -> None:
    settings, nkey = server.new_agent("gw1")
    callout.enrol(nkey, "gw1", ())
    await slow_once(callout)
    client = await nats.connect(server.url, nkeys_seed_str=settings.key().seed, connect_timeout=10)
    try:
        assert not client.is_connected  # c1: if this fails, the client was mended and our check is no longer needed
    finally:
        await client.close()


async def test_connect_that_returns_without_being_connected_is_made_again(
    server: RealServer, callout: GrantingCallout
) -> None:
    await slow_once(callout)
    async with agent(server, callout) as connection:
        client = await asyncio.wait_for(connection.wait_connected(), LIMIT)
        assert client.is_connected
        assert callout.asked == 2
        await client.flush()


async def test_server_may_start_after_the_client(tmp_path: Path) -> None:
    server = RealServer(tmp_path)
    async with Connection(server.settings("policy"), name="policy", inbox_prefix=inbox("policy")) as connection:
        assert not connection.is_connected
        with pytest.raises(NotConnectedError):
            _ = connection.client
        async with server:
            await asyncio.wait_for(connection.wait_connected(), LIMIT)


async def test_silent_callout_is_waited_out(server: RealServer) -> None:
    """No callout answers: the try ends, and the connection comes up soon after one does."""
    callout = GrantingCallout(server)
    async with agent(server, callout) as connection:
        await eventually(lambda: connection._supervisor is not None)
        async with callout:
            await asyncio.wait_for(connection.wait_connected(), LIMIT)


async def test_refused_client_comes_back_when_it_is_enrolled(server: RealServer, callout: GrantingCallout) -> None:
    settings, nkey = server.new_agent("gw1")
    async with Connection(settings, name="gw1", inbox_prefix=inbox("gw1")) as connection:
        await eventually(lambda: callout.asked >= 2, what="two refused tries")
        callout.enrol(nkey, "gw1", ())
        await asyncio.wait_for(connection.wait_connected(), LIMIT)


async def test_client_that_was_closed_for_good_is_built_again(server: RealServer, callout: GrantingCallout) -> None:
    """A revoked peer is kicked and refused, which closes the client; enrolled again, it returns by itself."""
    async with (
        Connection(server.settings("registry"), name="registry", inbox_prefix=inbox("registry")) as registry,
        agent(server, callout) as connection,
    ):
        first = await connection.wait_connected()
        (nkey, row) = callout.peers.popitem()
        await kick(await registry.wait_connected(), "gw1")
        await eventually(lambda: not connection.is_connected)
        await eventually(lambda: first.is_closed or callout.asked >= 3, LIMIT, "the refusal")
        callout.peers[nkey] = row
        client = await asyncio.wait_for(connection.wait_connected(), LIMIT)
        assert client.is_connected


async def kick(registry: Client, peer: str) -> None:
    query = json.dumps({"acc": "AGENTS", "user": peer, "auth": True}).encode()
    found = json.loads((await registry.request("$SYS.REQ.SERVER.PING.CONNZ", query, timeout=LIMIT)).data)
    (target,) = found["data"]["connections"]
    subject = f"$SYS.REQ.SERVER.{found['server']['id']}.KICK"
    await registry.request(subject, json.dumps({"cid": target["cid"]}).encode(), timeout=LIMIT)


async def test_callbacks_are_called_after_every_connect(server: RealServer, callout: GrantingCallout) -> None:
    calls: list[int] = []
    async with agent(server, callout) as connection:

        async def note() -> None:
            calls.append(connection.connects)

        connection.on_connected(note)
        await connection.wait_connected()
        await eventually(lambda: calls == [1])
        await server.kill()
        await eventually(lambda: not connection.is_connected)
        await server.start()
        await eventually(lambda: calls == [1, 2], LIMIT, "the callback after the reconnect")
        late: list[int] = []

        async def note_late() -> None:
            late.append(connection.connects)

        connection.on_connected(note_late)
        await eventually(lambda: late == [2])


async def test_a_callback_that_failed_is_called_again_without_a_reconnect(
    server: RealServer, callout: GrantingCallout
) -> None:
    calls: list[str] = []
    async with agent(server, callout) as connection:

        async def fail_once() -> None:
            calls.append("failing")
            if calls.count("failing") == 1:
                raise TimeoutError

        async def work() -> None:
            calls.append("working")

        connection.on_connected(fail_once)
        connection.on_connected(work)
        await eventually(lambda: len(calls) == 3, what="the second call")
        assert (sorted(calls), connection.connects) == (["failing", "failing", "working"], 1)


async def test_unusable_key_file_ends_the_wait_with_its_name(tmp_path: Path) -> None:
    settings = BusSettings((f"nats://127.0.0.1:{free_port()}",), tmp_path / "none.seed")
    async with Connection(settings, name="x", inbox_prefix=inbox("x")) as connection:
        with pytest.raises(InvalidKeyError, match=r"none\.seed"):
            await asyncio.wait_for(connection.wait_connected(), LIMIT)


async def test_wrong_key_presented_with_a_known_public_key_is_refused(
    server: RealServer, callout: GrantingCallout
) -> None:
    _, nkey = server.new_agent("victim")
    callout.enrol(nkey, "victim", ())
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        await reader.readline()
        connect = {"nkey": nkey, "sig": "A" * 86, "verbose": False, "pedantic": False, "lang": "x", "version": "1"}
        writer.write(f"CONNECT {json.dumps(connect)}\r\nPING\r\n".encode())
        answer = await asyncio.wait_for(reader.readline(), LIMIT)
        assert b"Authorization Violation" in answer
    finally:
        writer.close()
        await writer.wait_closed()
