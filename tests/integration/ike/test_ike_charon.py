"""Beyond the matrix: what else our endpoint and charon do together."""

import contextlib
import json
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_interface
from typing import Any

import pytest

from warren_cli.lab import NamespaceLoop, Ping
from warren_ikev2.aio import Client, ClientBuilder, Server, ServerBuilder, Session, TunDevice
from warren_ikev2.configuration import Retransmission
from warren_ikev2.credentials import EapMschapv2Auth, RawKeyTrust
from warren_ikev2.errors import AuthenticationError, NoProposalChosenError, TsUnacceptableError
from warren_ikev2.testing_keys import Authority, certificate_pem, make_key, private_pem

pytestmark = [pytest.mark.root, pytest.mark.interop]

IKE, ESP = "aes256gcm16-prfsha384-x25519", "aes256gcm16-x25519"
FAST = Retransmission(timeout=0.2, base=1.0, tries=4)
LIMIT_SECONDS = 15.0
ANY_ADDRESS = "0.0.0.0"  # noqa: S104  what asks charon for a virtual address


def client(bed: Any) -> ClientBuilder:
    """Our side as initiator, with the lab's secret."""
    builder = Client.builder().with_local_id(bed.our_id).with_remote_id(bed.peer_id).with_psk(bed.secret)
    builder.with_proposals([IKE], [ESP]).with_retransmission(FAST)
    return builder.with_networks([f"{bed.our_inner}/32"], [f"{bed.peer_inner}/32"])


def server(bed: Any) -> ServerBuilder:
    """Our side as responder, with the lab's secret."""
    builder = Server.builder().with_local_id(bed.our_id).with_remote_id(bed.peer_id).with_psk(bed.secret)
    return builder.with_proposals([IKE], [ESP]).with_networks([f"{bed.our_inner}/32"], [f"{bed.peer_inner}/32"])


@contextlib.contextmanager
def charon(bed: Any, name: str, sides: Any = None, **more: Any) -> Iterator[str]:
    """A connection of charon's, removed at the end."""
    local, remote = sides or bed.psk_sides()
    bed.vici.load(name, bed.charon_connection(IKE, ESP, local, remote, **more))
    try:
        yield name
    finally:
        bed.vici.terminate(name)
        bed.vici.unload(name)


@contextlib.contextmanager
def connected(bed: Any, builder: ClientBuilder) -> Iterator[Client]:
    """Our client, its session joined to the TUN device."""
    own = builder.build()
    try:
        bed.attach(bed.loop.run(own.connect(bed.peers, timeout=LIMIT_SECONDS)))
        yield own
    finally:
        bed.detach()
        bed.loop.run(own.shutdown())


@contextlib.contextmanager
def accepted(bed: Any, builder: ServerBuilder, name: str) -> Iterator[Session]:
    """Our server, after charon initiated its connection to it."""
    own = bed.loop.run(builder.bind(bed.ours_address))
    try:
        bed.vici.initiate(name)
        session = bed.loop.run(own.accept(), LIMIT_SECONDS)
        bed.attach(session)
        yield session
    finally:
        bed.detach()
        bed.loop.run(own.close())


def up(bed: Any, role: str, own: Any, name: str) -> contextlib.AbstractContextManager[object]:
    """Connected by our side, or by charon's."""
    return connected(bed, own) if role == "initiator" else accepted(bed, own, name)


@contextlib.contextmanager
def nft(namespace: Any, table: str, *rules: str) -> Iterator[None]:
    """Rules of nftables for a while."""
    for rule in (f"add table ip {table}", *rules):
        namespace.run("nft", rule)
    try:
        yield
    finally:
        namespace.run("nft", f"delete table ip {table}")


ESP_COUNTED = (
    "add chain ip counted in { type filter hook input priority 0; }",
    "add rule ip counted in udp sport 4500 @th,64,32 != 0 counter",  # no non-ESP marker (RFC 3948 2.2)
)


def counted_packets(namespace: Any, table: str) -> int:
    """What the only counter of a table has seen."""
    rules = json.loads(namespace.run("nft", "-j", f"list table ip {table}"))["nftables"]
    (count,) = (
        part["counter"]["packets"]
        for rule in rules
        for part in rule.get("rule", {}).get("expr", ())
        if "counter" in part
    )
    return int(count)


def only_short_ike(octets: int) -> tuple[str, ...]:
    """Drop IKE datagrams longer than this, both ways."""
    limit = f"meta length > {octets} counter drop"
    return tuple(
        line
        for hook, side in (("input", "sport"), ("output", "dport"))
        for line in (
            f"add chain ip short {hook} {{ type filter hook {hook} priority 0; }}",
            f"add rule ip short {hook} udp {side} {{ 500, 4500 }} {limit}",
        )
    )


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_fragmentation_at_600_bytes(bed: Any, role: str) -> None:
    """Certificates of RSA make IKE_AUTH longer than 2 kB; nothing longer than 600 bytes may pass."""
    credentials = bed.credentials["rsa-3072"]
    bed.reload_charon({"fragment_size": "600"})
    chain = [credentials.authority.issue(bed.our_id, credentials.our_key)]
    try:
        with (
            nft(bed.ours, "short", *only_short_ike(600)),
            charon(bed, f"fragments-{role}", bed.pubkey_sides(credentials), fragmentation="yes") as name,
        ):
            own: Any = client(bed) if role == "initiator" else server(bed)
            own.with_certificate(chain, credentials.our_key).with_authorities(credentials.authority.certificate)
            own.with_fragment_size(600)
            with up(bed, role, own, name):
                bed.ping()
    finally:
        bed.reload_charon({})


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_rekeys_from_both_sides_lose_nothing(bed: Any, role: str) -> None:
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(charon(bed, f"rekeys-{role}"))
        if role == "initiator":
            session = stack.enter_context(connected(bed, client(bed))).session
        else:
            session = stack.enter_context(accepted(bed, server(bed), name))
        ping = Ping(bed.ours, IPv4Address(bed.our_inner), IPv4Address(bed.peer_inner), 0.002)
        with ping:
            assert ping.wait_for_reply(5) is not None
            for rekey in (rekey_ours, rekey_charon_s_child, rekey_charon_s_ike) * 3:
                rekey(bed, session, name)
                assert ping.wait_for_reply(5, since=time.time() + 0.05) is not None
        counts = ping.counts()
        assert counts.sent > 200
        assert counts.lost == 0


def rekey_ours(bed: Any, session: Session, name: str) -> None:
    bed.loop.run(session.rekey())


def rekey_charon_s_child(bed: Any, session: Session, name: str) -> None:
    before = set(session.children)
    bed.vici.rekey(ike=name, child="net")
    bed.loop.run(until(session, lambda: not before & set(session.children)))


def rekey_charon_s_ike(bed: Any, session: Session, name: str) -> None:
    before = session.ike_rekeys
    bed.vici.rekey(ike=name)
    bed.loop.run(until(session, lambda: session.ike_rekeys > before))


async def until(session: Session, check: Any) -> None:
    while not check():
        await session.changed()


def test_a_silent_charon_is_noticed(bed: Any) -> None:
    with charon(bed, "dpd"), connected(bed, client(bed).with_dpd(0.3)) as own:
        bed.ping()
        with nft(
            bed.ours,
            "cut",
            "add chain ip cut in { type filter hook input priority 0; }",
            "add rule ip cut in udp sport 4500 drop",
        ):
            reason = bed.loop.run(own.session.wait_closed(), 10)
        assert "dead" in str(reason)
        assert own.metrics.dpd_timeout == 1


def test_charon_s_own_checks_are_answered(bed: Any) -> None:
    with charon(bed, "checked", dpd_delay="1s") as name, connected(bed, client(bed).with_dpd(None)) as own:
        before = bed.charon_log().count("generating INFORMATIONAL request")
        bed.wait_for_log("generating INFORMATIONAL request", before + 2)
        assert not own.session.closed
        assert bed.vici.sas(name)[0]["state"] == "ESTABLISHED"


def test_mobike_moves_the_client(bed: Any) -> None:
    """Every ESP packet of charon's is received, those to the old address too.

    charon may lose a ping inside: kernel-libipsec has no policy for a moment while it moves, between two charons also.
    """
    bed.ours.add_address("wan", ip_interface("203.0.113.7/24"))
    try:
        with (
            nft(bed.ours, "counted", *ESP_COUNTED),
            charon(bed, "mobike", remote_addrs=["%any"]) as name,
            connected(bed, client(bed)) as own,
        ):
            with Ping(bed.ours, IPv4Address(bed.our_inner), IPv4Address(bed.peer_inner), 0.0005) as ping:
                for address in ("203.0.113.7", bed.ours_address) * 3:
                    assert ping.wait_for_reply(5, since=time.time()) is not None
                    bed.loop.run(own.migrate(address))
                    assert ping.wait_for_reply(5, since=time.time() + 0.05) is not None
                    (sa,) = bed.vici.sas(name)
                    assert sa["remote-host"] == address
            assert ping.counts().received > 300
            assert own.metrics.esp_packets_decrypted == counted_packets(bed.ours, "counted")
    finally:
        bed.ours.run("ip", "address", "del", "203.0.113.7/24", "dev", "wan")


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_selectors_are_narrowed(bed: Any, role: str) -> None:
    """The initiator asks for everything; the responder grants its networks."""
    everything = ["0.0.0.0/0"]
    if role == "initiator":
        own = client(bed).with_networks(everything, everything)
        with charon(bed, "narrow-i"), connected(bed, own) as mine:
            check_narrowed(mine.session)
            bed.ping()
    else:
        wide = {"local_ts": [f"{bed.peer_inner}/32", "10.0.0.0/8"], "remote_ts": [*everything]}
        with charon(bed, "narrow-r", child=wide) as name, accepted(bed, server(bed), name) as session:
            check_narrowed(session)
            bed.ping()


def check_narrowed(session: Session) -> None:
    (child,) = session.children.values()
    assert [str(selector) for selector in (*child.local_ts, *child.remote_ts)] == ["10.91.1.1/32", "10.91.2.1/32"]


def test_our_client_gets_a_virtual_address(bed: Any) -> None:
    with bed.vici.session() as session:
        session.load_pool({"vips": {"addrs": "10.91.1.1/32", "dns": ["10.91.2.53"]}})
    own = client(bed).with_virtual_address(4)
    own._child = type(own._child)("child", (), own._child.remote_ts, own._child.esp_proposals)
    with charon(bed, "vip", pools=["vips"], child={"remote_ts": ["dynamic"]}), connected(bed, own) as mine:
        network = mine.session.info.network
        assert ([str(a) for a in network.addresses], [str(a) for a in network.dns]) == (["10.91.1.1"], ["10.91.2.53"])
        bed.ping()


def test_our_server_gives_a_virtual_address(bed: Any) -> None:
    own = Server.builder().with_local_id(bed.our_id).with_remote_id(bed.peer_id).with_psk(bed.secret)
    own.with_proposals([IKE], [ESP]).with_networks([f"{bed.our_inner}/32"]).with_address_pool("10.91.5.0/24")
    child = {"local_ts": ["dynamic"]}
    with charon(bed, "pool", vips=[ANY_ADDRESS], child=child) as name, accepted(bed, own, name) as session:
        (address,) = session.info.network.addresses
        assert bed.vici.sas(name)[0]["local-vips"] == [str(address)]
        assert [str(ts) for ts in next(iter(session.children.values())).remote_ts] == [f"{address}/32"]


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_certificate_chains(bed: Any, role: str) -> None:
    """Each side knows the root only; the intermediates come in CERT payloads."""
    root = Authority.make("Chain Root")
    ours, peers = root.subordinate("Our Intermediate"), root.subordinate("Peer Intermediate")
    our_key, peer_key = make_key("ecdsa-p256"), make_key("ecdsa-p256")
    with bed.vici.session() as session:
        session.load_key({"type": "any", "data": private_pem(peer_key).decode()})
        session.load_cert({"type": "X509", "flag": "CA", "data": certificate_pem(peers.certificate).decode()})
    pem = certificate_pem(peers.issue(bed.peer_id, peer_key)).decode()
    local = {"auth": "pubkey", "id": bed.peer_id, "certs": [pem]}
    remote = {"auth": "pubkey", "id": bed.our_id, "cacerts": [certificate_pem(root.certificate).decode()]}
    own: Any = client(bed) if role == "initiator" else server(bed)
    own.with_certificate([ours.issue(bed.our_id, our_key), ours.certificate], our_key).with_authorities(
        root.certificate
    )
    with charon(bed, f"chain-{role}", (local, remote)) as name, up(bed, role, own, name):
        bed.ping()


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_post_quantum_pre_shared_key(bed: Any, role: str) -> None:
    with bed.vici.session() as session:
        session.load_shared(
            {"id": "ppk", "type": "PPK", "data": b"a long quantum-safe key of the lab", "owners": ["ppk-id"]}
        )
    own: Any = client(bed) if role == "initiator" else server(bed)
    own.with_ppk(b"ppk-id", b"a long quantum-safe key of the lab")
    with charon(bed, f"ppk-{role}", ppk_id="ppk-id", ppk_required="yes") as name, up(bed, role, own, name):
        bed.ping()
        assert bed.vici.sas(name)[0]["ppk"] == "yes"


def test_eap_mschapv2_as_client(bed: Any) -> None:
    """charon proves itself by its key first, then asks for the password."""
    credentials = bed.credentials["ed25519"]
    with bed.vici.session() as session:
        session.load_shared({"id": "eap", "type": "EAP", "data": b"the password", "owners": ["carol"]})
    local, _ = bed.raw_sides(credentials)
    remote = {"auth": "eap-mschapv2", "eap_id": "%any", "id": bed.our_id}
    trust = RawKeyTrust((credentials.peer_key.public_key(),))
    with charon(bed, "eap", (local, remote)):
        with connected(bed, client(bed).with_auth(EapMschapv2Auth("carol", "the password"), trust)):
            bed.ping()
        # charon takes two seconds over a wrong password
        patient = client(bed).with_retransmission(Retransmission())
        refused = patient.with_auth(EapMschapv2Auth("carol", "a wrong one"), trust).build()
        with pytest.raises(AuthenticationError):
            bed.loop.run(refused.connect(bed.peers))


def test_charon_refuses_a_wrong_secret(bed: Any) -> None:
    with charon(bed, "wrong"), pytest.raises(AuthenticationError):
        bed.loop.run(client(bed).with_psk(b"wrong").build().connect(bed.peers))


def test_we_refuse_a_wrong_secret_of_charon(bed: Any) -> None:
    own = bed.loop.run(server(bed).with_psk(b"wrong").bind(bed.ours_address))
    try:
        with charon(bed, "wrong-r") as name:
            with pytest.raises(Exception, match=r"establishing CHILD_SA|AUTHENTICATION"):
                bed.vici.initiate(name)

            async def told() -> tuple[int, tuple[Session, ...]]:
                return own.metrics.ike_handshake_failures, own.sessions

            # charon has our answer a moment before our loop has told what it was: so the loop is asked, not read from here
            assert bed.loop.run(told()) == (1, ())
    finally:
        bed.loop.run(own.close())


def test_a_certificate_of_a_stranger_is_refused(bed: Any) -> None:
    credentials = bed.credentials["ecdsa-p256"]
    stranger = Authority.make("Stranger")
    chain = [credentials.authority.issue(bed.our_id, credentials.our_key)]
    own = client(bed).with_certificate(chain, credentials.our_key).with_authorities(stranger.certificate).build()
    with charon(bed, "stranger", bed.pubkey_sides(credentials)), pytest.raises(AuthenticationError):
        bed.loop.run(own.connect(bed.peers))


def test_no_proposal_and_no_selectors(bed: Any) -> None:
    with charon(bed, "mismatch"):
        with pytest.raises(NoProposalChosenError):
            bed.loop.run(client(bed).with_proposals(["aes128-sha256-modp2048"]).build().connect(bed.peers))
        with pytest.raises(TsUnacceptableError):
            bed.loop.run(client(bed).with_networks(remote=["10.99.0.0/16"]).build().connect(bed.peers))


# The last two: connection tracking remembers the masqueraded ports for a while.


@pytest.fixture(scope="module")
def inside(bed: Any) -> Iterator[tuple[NamespaceLoop, Any]]:
    """A host behind a NAT: `ours` masquerades it."""
    host = bed.lab.namespace("inside")
    bed.lab.link(host, "lan", "192.168.77.2/24", bed.ours, "lan", "192.168.77.1/24")
    host.add_default_route("192.168.77.1")
    bed.ours.enable_forwarding()
    with nft(
        bed.ours, "masq", "add chain ip masq post { type nat hook postrouting priority 100; }",
        "add rule ip masq post ip saddr 192.168.77.0/24 masquerade",
    ), NamespaceLoop(host) as loop:  # fmt: skip
        yield loop, host


def test_our_client_behind_a_nat(bed: Any, inside: tuple[NamespaceLoop, Any]) -> None:
    loop, host = inside
    tun = loop.run(open_tun())
    own = client(bed).with_networks(["10.91.1.9/32"]).with_options(keepalive_interval=0.2).build()
    try:
        host.run("ip", "address", "add", "10.91.1.9/32", "dev", tun.name)
        host.run("ip", "link", "set", tun.name, "up")
        host.run("ip", "route", "add", f"{bed.peer_inner}/32", "dev", tun.name)
        with charon(bed, "nat", remote_addrs=["%any"], child={"remote_ts": ["10.91.1.9/32"]}) as name:
            session = loop.run(own.connect(bed.peers, timeout=LIMIT_SECONDS))
            assert session.info.nat.local
            loop.run(attach(tun, session))
            out = host.run("ping", "-n", "-c", "3", "-i", "0.01", "-w", "5", "-I", "10.91.1.9", bed.peer_inner)
            assert " 3 received" in out
            (sa,) = bed.vici.sas(name)
            assert sa["nat-remote"] == "yes"
            assert sa["remote-host"] == bed.ours_address
            loop.run(own.shutdown())
    finally:
        loop.run(close_tun(tun))


async def open_tun() -> TunDevice:
    return TunDevice("nat%d")


async def attach(tun: TunDevice, session: Session) -> None:
    tun.attach(session)


async def close_tun(tun: TunDevice) -> None:
    tun.close()


def test_charon_behind_a_nat(bed: Any, inside: tuple[NamespaceLoop, Any]) -> None:
    """A second charon, inside, initiates to our server on the outside."""
    _, host = inside
    with bed.second_charon(host) as vici, contextlib.ExitStack() as stack:
        host.add_address("lo", ip_interface("10.91.3.1/32"))
        connection = bed.charon_connection(IKE, ESP, *bed.psk_sides(), child={"local_ts": ["10.91.3.1/32"]})
        vici.load("out", connection | {"local_addrs": ["192.168.77.2"], "remote_addrs": [bed.peers]})
        peer_loop = stack.enter_context(NamespaceLoop(bed.peer))
        own = server(bed).with_networks(["10.91.1.1/32"], ["10.91.3.1/32"])
        bed.charon.stop()
        stack.callback(bed.restart_charon)
        gateway = peer_loop.run(own.bind(bed.peers))
        stack.callback(lambda: peer_loop.run(gateway.close()))
        vici.initiate("out")
        session = peer_loop.run(gateway.accept(), LIMIT_SECONDS)
        assert session.info.nat.remote
        assert session.path.remote.host == IPv4Address(bed.ours_address)
        host.spawn("ping", "-n", "-c", "1", "-w", "3", "-I", "10.91.3.1", "10.91.1.1")
        packet = peer_loop.run(session.recv_packet(), 5)
        assert packet[12:20] == bytes((10, 91, 3, 1, 10, 91, 1, 1))
