"""Windows and MOBIKE with charon: two links between both sides, addresses told both ways, and a path that dies."""

import contextlib
import re
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from warren_cli.lab import Ping
from warren_ikev2.aio import Client, ClientBuilder, Server, Session
from warren_ikev2.configuration import Retransmission

pytestmark = [pytest.mark.root, pytest.mark.interop]

IKE, ESP = "aes256gcm16-prfsha384-x25519", "aes256gcm16-x25519"
FAST = Retransmission(timeout=0.2, base=1.0, tries=40)  # 8 s, for a machine that is busy otherwise
LIMIT_SECONDS = 15.0
OURS_2, PEERS_2 = "198.51.100.1", "198.51.100.2"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  a gateway with two links


def told(bed: Any, builder: Any) -> Any:
    """What both roles share."""
    builder.with_local_id(bed.our_id).with_remote_id(bed.peer_id).with_psk(bed.secret).with_proposals([IKE], [ESP])
    return builder.with_retransmission(FAST).with_networks([f"{bed.our_inner}/32"], [f"{bed.peer_inner}/32"])


@contextlib.contextmanager
def charon(bed: Any, name: str, **more: Any) -> Iterator[str]:
    local, remote = bed.psk_sides()
    bed.vici.load(name, bed.charon_connection(IKE, ESP, local, remote, **more))
    try:
        yield name
    finally:
        bed.vici.terminate(name)
        bed.vici.unload(name)


@contextlib.contextmanager
def connected(bed: Any, builder: ClientBuilder) -> Iterator[Client]:
    own = builder.build()
    try:
        bed.attach(bed.loop.run(own.connect(bed.peers, timeout=LIMIT_SECONDS)))
        yield own
    finally:
        bed.detach()
        bed.loop.run(own.shutdown())


@contextlib.contextmanager
def accepted(bed: Any, builder: Any, name: str) -> Iterator[Session]:
    own = bed.loop.run(builder.bind(EVERY_ADDRESS))
    try:
        bed.vici.initiate(name)
        session = bed.loop.run(own.accept(), LIMIT_SECONDS)
        bed.attach(session)
        yield session
    finally:
        bed.detach()
        bed.loop.run(own.close())


async def until(session: Session, check: Any) -> None:
    while not check():
        assert not session.closed, await session.wait_closed()
        await session.changed()


@pytest.fixture(scope="module")
def two_links(bed: Any) -> Any:
    bed.lab.link(bed.ours, "wan2", f"{OURS_2}/24", bed.peer, "wan2", f"{PEERS_2}/24")
    return bed


@contextlib.contextmanager
def dead(bed: Any, how: str) -> Iterator[None]:
    """The first link is dead: taken down at our end, or it swallows everything without a sign."""
    if how == "down":
        bed.ours.run("ip", "link", "set", "wan", "down")
        try:
            yield
        finally:
            bed.ours.run("ip", "link", "set", "wan", "up")
        return
    for rule in (
        "add table netdev dead",
        "add chain netdev dead in { type filter hook ingress device wan priority 0; policy drop; }",
    ):
        bed.ours.run("nft", rule)
    try:
        yield
    finally:
        bed.ours.run("nft", "delete table netdev dead")


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_a_window_is_told_and_does_no_harm(bed: Any, role: str) -> None:
    """charon knows no windows: it goes on with one request at a time, and so do we."""
    with charon(bed, f"window-{role}") as name, contextlib.ExitStack() as stack:
        if role == "initiator":
            own = told(bed, Client.builder()).with_options(window_size=4)
            session = stack.enter_context(connected(bed, own)).session
        else:
            session = stack.enter_context(accepted(bed, told(bed, Server.builder()).with_options(window_size=4), name))
        for _ in range(2):
            bed.loop.run(session.rekey())
            bed.ping()
            before = session.ike_rekeys
            bed.vici.rekey(ike=name)
            bed.loop.run(until(session, lambda before=before: session.ike_rekeys > before))
            bed.ping()


@pytest.mark.parametrize("how", ["silent", "down"])
def test_a_dead_path_is_survived_by_probing(two_links: Any, how: str) -> None:
    bed = two_links
    own = told(bed, Client.builder()).with_local_addresses(bed.ours_address, OURS_2).with_dpd(0.3)
    with charon(bed, f"dies-{how}", remote_addrs=["%any"]) as name, connected(bed, own) as mine:
        session = mine.session
        assert ip_address(PEERS_2) in session.info.peer_addresses
        assert session.path.remote.host == ip_address(bed.peers)
        with Ping(bed.ours, IPv4Address(bed.our_inner), IPv4Address(bed.peer_inner), 0.02) as ping:
            assert ping.wait_for_reply(5) is not None
            with dead(bed, how):
                bed.loop.run(until(session, lambda: str(session.path.local.host) == OURS_2), LIMIT_SECONDS)
                assert ping.wait_for_reply(5, since=time.time() + 0.05) is not None
                # where only what arrives is swallowed, charon's first address still works from our second one
                assert str(session.path.remote.host) in ((PEERS_2,) if how == "down" else (PEERS_2, bed.peers))
                (sa,) = bed.vici.sas(name)
                assert (sa["remote-host"], sa["local-host"]) == (OURS_2, str(session.path.remote.host))
        assert mine.metrics.dpd_timeout == 0


def checks_heard(bed: Any) -> int:
    """How often charon was asked for a COOKIE2 (RFC 4555, 3.7); in its own updates it stands beside others."""
    return len(re.findall(r"parsed INFORMATIONAL request \d+ \[ N\(COOKIE2\) \]", bed.charon_log()))


def test_charon_moves_to_our_other_address(two_links: Any) -> None:
    """charon initiates, its link dies; it knows our second address from our list, and answers our COOKIE2 from there."""
    bed = two_links
    own = told(bed, Server.builder()).with_options(local_addresses=(ip_address(bed.ours_address), ip_address(OURS_2)))
    with charon(bed, "moves", local_addrs=["%any"]) as name, accepted(bed, own, name) as session:
        assert ip_address(PEERS_2) in session.info.peer_addresses
        bed.ping()
        checks = checks_heard(bed)
        bed.peer.run("ip", "link", "set", "wan", "down")
        try:
            bed.loop.run(until(session, lambda: str(session.path.remote.host) == PEERS_2), LIMIT_SECONDS)
            assert str(session.path.local.host) == OURS_2
            bed.ping()
            (sa,) = bed.vici.sas(name)
            assert (sa["remote-host"], sa["local-host"]) == (OURS_2, PEERS_2)
        finally:
            bed.peer.run("ip", "link", "set", "wan", "up")
        assert checks_heard(bed) == checks + 1


def test_our_client_follows_when_charon_loses_its_address(two_links: Any) -> None:
    """As responder charon may not move the SAs: it looks for us at our other addresses, on port 4500, and tells its own."""
    bed = two_links
    own = told(bed, Client.builder()).with_local_addresses(bed.ours_address, OURS_2).with_dpd(None)
    own.with_local_ports(500, 4500)
    with charon(bed, "loses", local_addrs=["%any"], remote_addrs=["%any"]), connected(bed, own) as mine:
        bed.ping()
        bed.peer.run("ip", "address", "del", f"{bed.peers}/24", "dev", "wan")
        try:
            session = mine.session
            bed.loop.run(until(session, lambda: str(session.path.remote.host) == PEERS_2), LIMIT_SECONDS)
            bed.ping()
        finally:
            bed.peer.run("ip", "address", "add", f"{bed.peers}/24", "dev", "wan")
