"""Our endpoint and charon beyond the matrix: fragmentation, rekeying, liveness, MOBIKE, selectors, virtual addresses."""

import contextlib
import json
import re
import time
from ipaddress import IPv4Address, ip_interface

import pytest

from warren_ikev2.aio import Server, Session
from warren_ikev2.configuration import Retransmission
from warren_lab.namespace import Namespace
from warren_lab.ping import Ping
from warren_lab.process import wait_until
from warren_testkit.ikev2.proposals import names
from warren_testkit.lab.ike_bed import ESP, IKE, LIMIT_SECONDS, Bed

pytestmark = [pytest.mark.root, pytest.mark.interop]


FAST = Retransmission(timeout=0.2, base=1.0, tries=40)  # 8 s, for a busy machine


ANY_ADDRESS = "0.0.0.0"  # noqa: S104  makes charon request a virtual address


ESP_COUNTED = (
    "add chain ip counted in { type filter hook input priority 0; }",
    "add rule ip counted in udp sport 4500 @th,64,32 != 0 counter",  # no non-ESP marker (RFC 3948 2.2)
)


def counted_packets(namespace: Namespace, table: str) -> int:
    """Return the packets of the only counter of a table."""
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
def test_fragmentation_at_600_bytes(bed: Bed, role: str) -> None:
    """Certificates of RSA make IKE_AUTH longer than 2 kB; nothing longer than 600 bytes may pass."""
    credentials = bed.credentials["rsa-3072"]
    bed.reload_charon({"fragment_size": "600"})
    chain = [credentials.authority.issue(bed.our_id, credentials.our_key)]
    try:
        with (
            bed.nft("short", *only_short_ike(600)),
            bed.connection(f"fragments-{role}", credentials.pubkey_sides(), fragmentation="yes") as name,
        ):
            own = bed.builder(role)
            own.with_certificate(chain, credentials.our_key).with_authorities(credentials.authority.certificate)
            own.with_fragment_size(600)
            with bed.up(own, name):
                bed.ping()
    finally:
        bed.reload_charon({})


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_rekeys_from_both_sides_lose_nothing(bed: Bed, role: str) -> None:
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(bed.connection(f"rekeys-{role}"))
        session = stack.enter_context(bed.up(bed.builder(role), name))
        ping = Ping(bed.ours, IPv4Address(bed.our_inner), IPv4Address(bed.peer_inner), 0.002)
        with ping:
            assert ping.wait_for_reply(LIMIT_SECONDS) is not None
            for rekey in (rekey_ours, rekey_charon_s_child, rekey_charon_s_ike) * 3:
                rekey(bed, session, name)
                assert ping.wait_for_reply(LIMIT_SECONDS, since=time.time() + 0.05) is not None
        assert ping.counts().lost == 0


def rekey_ours(bed: Bed, session: Session, name: str) -> None:
    bed.loop.run(session.rekey())


def rekey_charon_s_child(bed: Bed, session: Session, name: str) -> None:
    before = set(session.children)
    bed.vici.rekey(ike=name, child="net")
    bed.wait(session, lambda: not before & set(session.children))


def rekey_charon_s_ike(bed: Bed, session: Session, name: str) -> None:
    before = session.ike_rekeys
    bed.vici.rekey(ike=name)
    bed.wait(session, lambda: session.ike_rekeys > before)


def test_a_silent_charon_is_detected(bed: Bed) -> None:
    with bed.connection("dpd"), bed.connected(bed.client().with_retransmission(FAST).with_dpd(0.3)) as own:
        bed.ping()
        with bed.nft(
            "cut",
            "add chain ip cut in { type filter hook input priority 0; }",
            "add rule ip cut in udp sport 4500 drop",
        ):
            reason = bed.loop.run(own.session.wait_closed(), LIMIT_SECONDS)
        assert "dead" in str(reason)
        assert own.metrics.dpd_timeout == 1


def liveness_checks_sent(bed: Bed) -> int:
    """Count charon's empty INFORMATIONAL requests; it may send others at any time, such as address updates (RFC 4555, 3.6)."""
    return len(re.findall(r"generating INFORMATIONAL request \d+ \[ \]", bed.charon_log()))


def test_charon_s_own_checks_are_answered(bed: Bed) -> None:
    with bed.connection("checked", dpd_delay="1s") as name, bed.connected(bed.client().with_dpd(None)) as own:
        before = liveness_checks_sent(bed)
        wait_until(lambda: liveness_checks_sent(bed) >= before + 2, "two liveness checks of charon", LIMIT_SECONDS)
        assert not own.session.closed
        assert bed.vici.sas(name)[0]["state"] == "ESTABLISHED"


def test_mobike_moves_the_client(bed: Bed) -> None:
    """Every ESP packet of charon's is received, also those to the old address.

    charon may lose a ping: kernel-libipsec has no policy for a moment while it moves, between two charons as well.
    """
    bed.ours.add_address("wan", ip_interface("203.0.113.7/24"))
    try:
        with (
            bed.nft("counted", *ESP_COUNTED),
            bed.connection("mobike", remote_addrs=["%any"]) as name,
            bed.connected(bed.client().with_retransmission(FAST)) as own,
        ):
            with Ping(bed.ours, IPv4Address(bed.our_inner), IPv4Address(bed.peer_inner), 0.002, 1.0) as ping:
                for address in ("203.0.113.7", bed.ours_address) * 3:
                    assert ping.wait_for_reply(LIMIT_SECONDS, since=time.time()) is not None
                    bed.loop.run(own.migrate(address))
                    assert ping.wait_for_reply(LIMIT_SECONDS, since=time.time() + 0.05) is not None
                    (sa,) = bed.vici.sas(name)
                    assert sa["remote-host"] == address
            wait_until(
                lambda: own.metrics.esp_packets_decrypted == counted_packets(bed.ours, "counted"), "all packets are decrypted",
                LIMIT_SECONDS,
            )  # fmt: skip
    finally:
        bed.ours.run("ip", "address", "del", "203.0.113.7/24", "dev", "wan")


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_selectors_are_narrowed(bed: Bed, role: str) -> None:
    """The initiator asks for everything; the responder grants its networks."""
    everything = ["0.0.0.0/0"]
    if role == "initiator":
        own = bed.client().with_networks(everything, everything)
        with bed.connection("narrow-i"), bed.connected(own) as mine:
            check_narrowed(mine.session)
            bed.ping()
    else:
        wide = {"local_ts": [f"{bed.peer_inner}/32", "10.0.0.0/8"], "remote_ts": [*everything]}
        with bed.connection("narrow-r", child=wide) as name, bed.accepted(bed.server(), name) as session:
            check_narrowed(session)
            bed.ping()


def check_narrowed(session: Session) -> None:
    (child,) = session.children.values()
    assert [str(selector) for selector in (*child.local_ts, *child.remote_ts)] == ["10.91.1.1/32", "10.91.2.1/32"]


def test_our_client_gets_a_virtual_address(bed: Bed) -> None:
    with bed.vici.session() as session:
        session.load_pool({"vips": {"addrs": "10.91.1.1/32", "dns": ["10.91.2.53"]}})
    own = bed.client().with_virtual_address(4)
    own._child = type(own._child)("child", (), own._child.remote_ts, own._child.esp_proposals)
    with bed.connection("vip", pools=["vips"], child={"remote_ts": ["dynamic"]}), bed.connected(own) as mine:
        network = mine.session.info.network
        assert ([str(a) for a in network.addresses], [str(a) for a in network.dns]) == (["10.91.1.1"], ["10.91.2.53"])
        bed.ping()


def test_our_server_gives_a_virtual_address(bed: Bed) -> None:
    own = Server.builder().with_local_id(bed.our_id).with_remote_id(bed.peer_id).with_psk(bed.secret)
    own.with_proposals([names(IKE)], [names(ESP)]).with_networks([f"{bed.our_inner}/32"]).with_address_pool(
        "10.91.5.0/24"
    )
    child = {"local_ts": ["dynamic"]}
    with bed.connection("pool", vips=[ANY_ADDRESS], child=child) as name, bed.accepted(own, name) as session:
        (address,) = session.info.network.addresses
        assert bed.vici.sas(name)[0]["local-vips"] == [str(address)]
        assert [str(ts) for ts in next(iter(session.children.values())).remote_ts] == [f"{address}/32"]
