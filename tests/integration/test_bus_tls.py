"""The bus by TLS: from the first byte, with our CA and the configured name only, or not at all."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from nats.errors import Error as NatsError

from warren_bus.client import PatchedClient
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.errors import InvalidSettingError
from warren_bus.settings import BusSettings, parse_servers
from warren_bus.tls import ClientTls
from warren_testkit.bus import RealServer
from warren_testkit.bus.certificates import server_tls
from warren_testkit.bus.servers import GrantingCallout
from warren_testkit.waiting import eventually
from warren_trust.certificates import make_authority
from warren_trust.keys import KeyKind, KeyPair

AUTHORITY, OTHER = make_authority(datetime.now(UTC)), make_authority(datetime.now(UTC))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@asynccontextmanager
async def serving(folder: Path, name: str = "nats") -> AsyncIterator[RealServer]:
    async with RealServer(folder / name, tls=server_tls(folder / f"{name}-tls", AUTHORITY)) as server:
        yield server


async def refused(settings: BusSettings, words: str) -> None:
    """Wait until a try does not connect for this reason; one of a busy machine may have taken too long."""
    errors: list[str] = []
    async with Connection(settings, name="policy", inbox_prefix=inbox("policy")) as connection:
        connection.on_error(lambda error: errors.append(str(error)))
        await eventually(lambda: any(words in error for error in errors), what=f"{words!r} in {errors}")
        assert not connection.is_connected


@asynccontextmanager
async def relayed(server: RealServer, scheme: str, *, with_info: bool) -> AsyncIterator[tuple[BusSettings, bytearray]]:
    """Settings of a relay before a server, and what a client sends to it."""
    sent, open_ends = bytearray(), list[asyncio.StreamWriter]()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        open_ends.extend((writer, to_server))
        if with_info:
            writer.write(await from_server.readline())
        sent.extend(await reader.read())

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        yield replace(server.settings("policy"), servers=(f"{scheme}://127.0.0.1:{port}",)), sent
        for end in open_ends:
            end.close()


async def test_a_server_without_tls_receives_a_client_hello_only(server: RealServer, folder: Path) -> None:
    tls = server_tls(folder / "unused", AUTHORITY)
    async with relayed(server, "nats", with_info=True) as (clear, sent):
        settings = replace(clear, servers=(clear.servers[0].replace("nats:", "tls:"),), ca_file=tls.authorities)
        await refused(settings, "127.0.0.1 offers no TLS")
    assert sent[:1] == b"\x16"  # a handshake record (RFC 8446 5.1), or an alert after it
    assert b"CONNECT" not in sent
    assert server.settings("policy").key().public.encode() not in sent


async def test_a_server_with_tls_refuses_to_be_used_in_clear_and_renews_without_a_restart(folder: Path) -> None:
    """One server for the whole of its life: certificates that are wrong, then another one while clients are connected."""
    async with serving(folder) as server, GrantingCallout(server) as callout:
        settings = server.settings("policy")
        for wrong, words in (
            ({"ca_file": server_tls(folder / "other", OTHER).authorities}, "is not of the CA that this host trusts"),
            ({"server_name": "bus.example.net"}, "is not for 127.0.0.1"),
        ):
            await refused(replace(settings, **wrong), words)
        peer, nkey = server.new_agent("gw1")
        callout.enrol(nkey, "gw1", ())
        async with (
            Connection(settings, name="policy", inbox_prefix=inbox("policy")) as service,
            Connection(peer, name="gw1", inbox_prefix=inbox("gw1")) as agent,
        ):
            for connection in (service, agent):
                await asyncio.wait_for(connection.wait_connected(), 60)
            server_tls(folder / "nats-tls", OTHER, trusted=[AUTHORITY, OTHER])
            server.reload()
            # A reload ends the connections of agents (docs/bus.md, c6), which return at once; services stay connected.
            await eventually(lambda: agent.connects == 2 and agent.is_connected, what="the agent verifies the other CA")
            assert service.connects == 1
            assert service.is_connected
            await service.client.flush()
        server_tls(folder / "nats-tls", OTHER, issued_ago=timedelta(days=120))
        server.reload()
        await eventually(lambda: server.log().count("Reloaded server configuration") == 2)
        await refused(settings, "has expired, or this host's clock is wrong")


async def test_clear_text_to_a_server_with_tls_says_what_to_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warren_bus.dial.CONNECT_TIMEOUT", 1)
    async with serving(folder, "silent") as server:
        settings = replace(server.settings("policy"), servers=(server.url.replace("tls:", "nats:"),))
        await refused(settings, "write tls:// for nats://")


def test_clear_text_is_refused_elsewhere_than_on_the_loopback(tmp_path: Path) -> None:
    for url in ("nats://192.0.2.10:4222", "nats://bus.example.net", "nats://[2001:db8::1]:4222"):
        with pytest.raises(
            InvalidSettingError, match="clear text, which is accepted on the loopback only: write tls://"
        ):
            BusSettings((url,), tmp_path / "seed")
        assert BusSettings((url,), tmp_path / "seed", cleartext=True).servers == (url,)
    for url in ("nats://127.0.0.1:4222", "nats://[::1]:4222", "nats://localhost"):
        assert BusSettings((url,), tmp_path / "seed").servers == (url,)


def test_a_bare_host_means_tls_which_needs_a_ca(tmp_path: Path) -> None:
    assert parse_servers("bus.example.net:4333, tls://192.0.2.10") == ("bus.example.net:4333", "tls://192.0.2.10")
    with pytest.raises(InvalidSettingError, match=r"WARREN_CA_FILE is not set: tls://bus\.example\.net needs the CA"):
        BusSettings(("bus.example.net",), tmp_path / "seed")


async def test_a_ca_file_without_a_certificate_ends_the_connection(tmp_path: Path, server: RealServer) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("text")
    settings = replace(server.settings("policy"), servers=("bus.example.net",), ca_file=broken)
    async with Connection(settings, name="policy", inbox_prefix=inbox("policy")) as connection:
        with pytest.raises(InvalidSettingError, match="it contains no CA certificate"):
            await connection.wait_connected()


async def test_a_client_ends_after_a_handshake_that_was_cut_off(tmp_path: Path) -> None:
    """Something resets each connection in its server's place: nobody must wait for the end of such a connection (c23)."""
    attempts = 0

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        await reader.read(1)
        attempts += 1
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with serving(tmp_path) as server:
        client = PatchedClient()
        assert server.ca_file is not None
        client.tls = ClientTls(server.ca_file)
        seed = server.settings("policy").key().seed
        await client.connect(server.url, nkeys_seed_str=seed, max_reconnect_attempts=-1, reconnect_time_wait=1)
        await server.kill()
        async with await asyncio.start_server(reset, "127.0.0.1", server.port, reuse_address=True):
            await eventually(lambda: attempts >= 2)
            async with asyncio.timeout(60):
                await client.close()


async def test_a_connection_to_a_server_that_hangs_ends_without_its_answer(tmp_path: Path) -> None:
    """asyncio would wait 30 s for the end of TLS."""
    async with serving(tmp_path) as server, contextlib.AsyncExitStack() as stack:
        settings = server.settings("policy")
        connection = await stack.enter_async_context(Connection(settings, name="policy", inbox_prefix=inbox("policy")))
        await connection.wait_connected()
        server.freeze()
        try:
            async with asyncio.timeout(20):
                await stack.aclose()
        finally:
            server.thaw()


async def test_a_refused_client_leaves_no_socket_open(tmp_path: Path) -> None:
    """Not even for the closing handshake of TLS."""
    async with serving(tmp_path) as server:
        client = PatchedClient()
        assert server.ca_file is not None
        client.tls = ClientTls(server.ca_file)
        seed = KeyPair.generate(KeyKind.USER).seed
        before = sockets()
        with pytest.raises((NatsError, TimeoutError)):
            await client.connect(server.url, nkeys_seed_str=seed, allow_reconnect=False, max_reconnect_attempts=1)
        # The loop closes what was aborted at once; the closing handshake of TLS would take 30 s.
        await eventually(lambda: not sockets() - before, 15)


def sockets() -> set[str]:
    """The TCP connections of this process."""
    connections = psutil.Process().net_connections(kind="tcp")
    return {f"{it.laddr} {it.raddr}" for it in connections if it.status == psutil.CONN_ESTABLISHED}
