"""The API of client and server, over real UDP sockets on the loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from warren_ikev2.aio import Client, ClientBuilder, Server, ServerBuilder, Session
from warren_ikev2.configuration import Retransmission
from warren_ikev2.errors import (
    AuthenticationError,
    CommandError,
    ConfigurationError,
    NoProposalChosenError,
    NotConnectedError,
    PeerNotRespondingError,
    SessionClosedError,
    TsUnacceptableError,
)
from warren_testkit.ikev2.keys import Authority, make_key
from warren_testkit.ikev2.proposals import names

SECRET = b"a shared secret"
FAST = Retransmission(timeout=0.1, base=1.0, tries=3)
PATIENT = Retransmission(timeout=0.1, base=1.0, tries=300)


def server_builder() -> ServerBuilder:
    return (
        Server.builder()
        .with_psk(SECRET)
        .with_local_id("server.example.com")
        .with_remote_id("client@example.com")
        .with_networks(local=["10.2.0.0/24"], remote=["10.1.0.0/24"])
    )


def client_builder() -> ClientBuilder:
    return (
        Client.builder()
        .with_psk(SECRET)
        .with_local_id("client@example.com")
        .with_remote_id("server.example.com")
        .with_networks(local=["10.1.0.0/24"], remote=["10.2.0.0/24"])
        .with_retransmission(PATIENT)
    )


@contextlib.asynccontextmanager
async def serving(builder: ServerBuilder | None = None) -> AsyncIterator[Server]:
    server = await (builder or server_builder()).bind("127.0.0.1", 0, 0)
    async with server:
        yield server


def to(server: Server, builder: ClientBuilder | None = None) -> Client:
    builder = builder or client_builder()
    return builder.with_remote_ports(server.ike_address.port, server.natt_address.port).build()


def packet(number: int = 0, *, back: bool = False) -> bytes:
    source, destination = ("10.2.0.1", "10.1.0.1") if back else ("10.1.0.1", "10.2.0.1")
    return bytes(IP(src=source, dst=destination) / UDP(sport=number) / Raw(b"payload"))


async def eventually(check: Callable[[], bool], wait: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while not check():
            await wait()


async def test_connect_send_receive_shutdown() -> None:
    async with serving() as server, to(server) as client:
        await client.connect("127.0.0.1")
        session = await server.accept()
        await client.send_packet(packet(1))
        assert await session.recv_packet() == packet(1)
        await session.send_packet(packet(2, back=True))
        assert await client.recv_packet() == packet(2, back=True)
        await client.shutdown()
        with pytest.raises(SessionClosedError):
            await session.recv_packet()


async def test_the_session_reports_the_identity_of_the_peer() -> None:
    async with serving() as server, to(server) as client:
        session = await client.connect("127.0.0.1")
        accepted = await server.accept()
        assert str(session.info.remote_identity) == "server.example.com"
        assert str(accepted.info.remote_identity) == "client@example.com"
        assert session.info.suite == accepted.info.suite
        assert [str(child.suite) for child in session.children.values()] == ["aes256gcm16"]


async def test_a_host_name_is_resolved() -> None:
    async with serving() as server, to(server) as client:
        await client.connect("localhost")


async def test_connecting_twice_keeps_the_session() -> None:
    async with serving() as server, to(server) as client:
        first = await client.connect("127.0.0.1")
        assert await client.connect("127.0.0.1") is first


async def test_a_client_may_connect_again_after_shutdown() -> None:
    async with serving() as server, to(server) as client:
        for _ in range(2):
            await client.connect("127.0.0.1")
            session = await server.accept()
            await client.send_packet(packet())
            assert await session.recv_packet() == packet()
            await client.shutdown()


async def test_many_clients_at_once() -> None:
    async with serving(server_builder().with_options(remote_identity=None)) as server:
        names = [f"client-{number}@example.com" for number in range(8)]
        clients = [to(server, client_builder().with_local_id(name)) for name in names]
        await asyncio.gather(*(client.connect("127.0.0.1") for client in clients))
        sessions = [await server.accept() for _ in clients]
        assert len({session.id for session in sessions}) == 8
        assert server.metrics.ike_handshakes_total == 8
        for number, client in enumerate(clients):
            await client.send_packet(packet(number))
        received = sorted([IP(await session.recv_packet()).sport for session in sessions])
        assert received == list(range(8))
        await asyncio.gather(*(client.shutdown() for client in clients))


async def test_the_server_closes_a_session() -> None:
    async with serving() as server, to(server) as client:
        await client.connect("127.0.0.1")
        session = await server.accept()
        await session.close()
        with pytest.raises(SessionClosedError):
            await client.recv_packet()


async def test_closing_the_server_ends_accept_and_sessions() -> None:
    async with serving() as server, to(server) as client:
        await client.connect("127.0.0.1")
        await server.accept()
        waiting = asyncio.create_task(server.accept())
        await asyncio.sleep(0)
        await server.close()
        with pytest.raises(SessionClosedError):
            await waiting
        with pytest.raises(SessionClosedError):
            await client.recv_packet()


async def test_sessions_can_be_iterated() -> None:
    async with serving() as server, to(server) as client:
        await client.connect("127.0.0.1")
        async for session in server:
            assert isinstance(session, Session)
            break


async def test_rekey_replaces_everything_and_keeps_the_session() -> None:
    async with serving() as server, to(server) as client:
        session = await client.connect("127.0.0.1")
        accepted = await server.accept()
        before = set(session.children)
        await client.rekey()
        assert not before & set(session.children)
        assert len(session.children) == 1
        await client.send_packet(packet())
        assert await accepted.recv_packet() == packet()
        assert client.metrics.ike_sa_rekeyed == server.metrics.ike_sa_rekeyed == 1


async def test_a_wrong_secret_is_refused_on_both_sides() -> None:
    async with serving() as server:
        client = to(server, client_builder().with_psk(b"another secret"))
        with pytest.raises(AuthenticationError) as caught:
            await client.connect("127.0.0.1")
        assert caught.value.error_code == "AUTHENTICATION_FAILED"
        assert server.metrics.ike_handshake_failures == client.metrics.ike_handshake_failures == 1
        assert server.sessions == ()


async def test_no_common_proposal() -> None:
    async with serving() as server:
        client = to(server, client_builder().with_proposals([names("aes128-sha256-modp2048")]))
        with pytest.raises(NoProposalChosenError):
            await client.connect("127.0.0.1")


async def test_no_common_selectors_fail_the_connection() -> None:
    async with serving() as server:
        client = to(server, client_builder().with_networks(remote=["192.168.0.0/24"]))
        with pytest.raises(TsUnacceptableError):
            await client.connect("127.0.0.1")


async def test_no_peer_answers() -> None:
    client = client_builder().with_retransmission(FAST).with_remote_ports(9, 9).build()
    with pytest.raises(PeerNotRespondingError):
        await client.connect("127.0.0.1")
    with pytest.raises(PeerNotRespondingError):
        await client.connect("127.0.0.1", timeout=0.05)


async def test_dead_peers_are_detected() -> None:
    async with serving() as server:
        client = to(server, client_builder().with_retransmission(FAST).with_dpd(0.2))
        session = await client.connect("127.0.0.1")
        server._driver.stop()
        async with asyncio.timeout(60):
            reason = await session.wait_closed()
        assert "dead" in str(reason)
        assert client.metrics.dpd_timeout == 1
        await client.shutdown()


async def test_before_connect_there_is_nothing() -> None:
    client = client_builder().build()
    with pytest.raises(NotConnectedError):
        await client.send_packet(packet())
    with pytest.raises(NotConnectedError):
        _ = client.metrics
    await client.shutdown()


async def test_metrics_of_both_sides() -> None:
    async with serving() as server, to(server) as client:
        await client.connect("127.0.0.1")
        session = await server.accept()
        for number in range(5):
            await client.send_packet(packet(number))
            await session.recv_packet()
        assert client.metrics.snapshot()["esp_packets_encrypted"] == 5
        assert server.metrics.snapshot()["esp_packets_decrypted"] == 5
        assert "ike_handshakes_total 1" in server.metrics.prometheus()


async def test_certificates() -> None:
    authority = Authority.make()
    server_key, client_key = make_key("ecdsa-p256"), make_key("ed25519")
    builder = server_builder().with_certificate([authority.issue("server.example.com", server_key)], server_key)
    async with serving(builder.with_authorities(authority.certificate)) as server:
        chain = [authority.issue("client@example.com", client_key)]
        own = client_builder().with_certificate(chain, client_key).with_authorities(authority.certificate)
        async with to(server, own) as client:
            session = await client.connect("127.0.0.1")
            assert (session.info.local_auth, session.info.remote_auth) == ("pubkey", "pubkey")


async def test_virtual_addresses() -> None:
    builder = Server.builder().with_psk(SECRET).with_local_id("server.example.com")
    builder.with_address_pool("10.77.0.0/24", dns=["10.77.0.1"])
    async with serving(builder) as server:
        own = Client.builder().with_psk(SECRET).with_local_id("client@example.com").with_virtual_address(4)
        async with to(server, own.with_remote_id("server.example.com")) as client:
            session = await client.connect("127.0.0.1")
            (address,) = session.info.network.addresses
            assert str(address).startswith("10.77.0.")
            assert [str(host) for host in session.info.network.dns] == ["10.77.0.1"]
            await client.send_packet(bytes(IP(src=str(address), dst="8.8.8.8") / UDP()))
            accepted = await server.accept()
            assert IP(await accepted.recv_packet()).src == str(address)


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda: Client.builder().with_local_id("x").build(), "credentials"),
        (lambda: Client.builder().with_psk(b"s").build(), "local identity"),
        (lambda: Client.builder().with_psk(b""), "empty"),
        (lambda: client_builder().with_proposals([["rot13"]]), "unknown algorithm 'rot13'"),
        (lambda: client_builder().with_networks(["10.0.0.0/99"]), "invalid network"),
        (lambda: client_builder().with_options(colour="blue").build(), "colour"),
    ],
)
def test_configuration_errors_name_the_problem(build: Callable[[], object], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        build()


# Several addresses (MOBIKE); every 127.0.0.0/8 address is ours

EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  a server with several addresses


@contextlib.asynccontextmanager
async def multihomed() -> AsyncIterator[tuple[Server, Client, Session, Session]]:
    """A server and a client with two addresses each, connected over 127.0.0.1."""
    addresses = tuple(ip_address(host) for host in ("127.0.0.1", "127.0.0.2"))
    server = await server_builder().with_options(local_addresses=addresses).bind(EVERY_ADDRESS, 0, 0)
    async with server, to(server, client_builder().with_local_addresses("127.0.0.1", "127.0.0.2")) as client:
        ours = await client.connect("127.0.0.1")
        yield server, client, ours, await server.accept()


async def exchange(ours: Session, theirs: Session) -> None:
    await ours.send_packet(packet())
    assert await theirs.recv_packet() == packet()
    await theirs.send_packet(packet(back=True))
    assert await ours.recv_packet() == packet(back=True)


async def test_both_sides_know_each_other_s_addresses() -> None:
    async with multihomed() as (_, _, ours, theirs):
        announced = tuple(ip_address(host) for host in ("127.0.0.1", "127.0.0.2"))
        assert ours.info.peer_addresses == theirs.info.peer_addresses == announced


async def test_a_client_leaves_an_address_that_was_removed() -> None:
    async with multihomed() as (_, client, ours, theirs):
        client.set_addresses("127.0.0.2", "127.0.0.3")
        await eventually(lambda: str(ours.path.local.host) == "127.0.0.2", ours.changed)
        await eventually(lambda: str(theirs.path.remote.host) == "127.0.0.2", theirs.changed)
        await exchange(ours, theirs)


async def test_a_client_with_several_addresses_migrates() -> None:
    async with multihomed() as (_, client, ours, theirs):
        await client.migrate("127.0.0.2")
        await eventually(lambda: str(theirs.path.remote.host) == "127.0.0.2", theirs.changed)
        await exchange(ours, theirs)


async def test_a_server_leaves_an_address_that_was_removed() -> None:
    async with multihomed() as (server, _, ours, theirs):
        server.set_addresses("127.0.0.2")
        await eventually(lambda: str(ours.path.remote.host) == "127.0.0.2", ours.changed)
        await exchange(ours, theirs)


async def test_addresses_without_a_path_change_nothing() -> None:
    async with multihomed() as (server, client, ours, theirs):
        server.set_addresses("::1")
        with pytest.raises(CommandError):
            client.set_addresses("::1")
        await exchange(ours, theirs)
