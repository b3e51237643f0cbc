"""Windows and MOBIKE with charon: two links between both sides, address lists both ways, and a path that fails."""

import contextlib
import functools
import re
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_address

import pytest

from warren_ikev2.aio import Session
from warren_ikev2.configuration import Retransmission
from warren_lab.ping import Ping
from warren_testkit.lab.ike_bed import LIMIT_SECONDS, Bed, BuilderT

pytestmark = [pytest.mark.root, pytest.mark.interop]


FAST = Retransmission(timeout=0.2, base=1.0, tries=40)  # 8 s, for a busy machine


OURS_2, PEERS_2 = "198.51.100.1", "198.51.100.2"
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  a gateway with two links


def with_fast_retransmission(builder: BuilderT) -> BuilderT:
    return builder.with_retransmission(FAST)


@pytest.fixture(scope="module")
def two_links(bed: Bed) -> Bed:
    bed.lab.link(bed.ours, "wan2", f"{OURS_2}/24", bed.peer, "wan2", f"{PEERS_2}/24")
    return bed


@contextlib.contextmanager
def failed_link(bed: Bed, how: str) -> Iterator[None]:
    """The first link fails: it is taken down at our end, or drops every packet silently."""
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


def is_rekeyed(session: Session, rekeys_before: int) -> bool:
    return session.ike_rekeys > rekeys_before


@pytest.mark.parametrize("role", ["initiator", "responder"])
def test_a_window_is_announced_and_has_no_effect_on_charon(bed: Bed, role: str) -> None:
    """charon does not support windows: it continues with one request at a time, and so do we."""
    with bed.connection(f"window-{role}") as name, contextlib.ExitStack() as stack:
        if role == "initiator":
            own = with_fast_retransmission(bed.client()).with_options(window_size=4)
            session = stack.enter_context(bed.connected(own)).session
        else:
            session = stack.enter_context(
                bed.accepted(with_fast_retransmission(bed.server()).with_options(window_size=4), name, EVERY_ADDRESS)
            )
        for _ in range(2):
            bed.loop.run(session.rekey())
            bed.ping()
            before = session.ike_rekeys
            bed.vici.rekey(ike=name)
            bed.wait(session, functools.partial(is_rekeyed, session, before))
            bed.ping()


@pytest.mark.parametrize("how", ["silent", "down"])
def test_a_failed_path_is_replaced_by_probing(two_links: Bed, how: str) -> None:
    bed = two_links
    own = with_fast_retransmission(bed.client()).with_local_addresses(bed.ours_address, OURS_2).with_dpd(0.3)
    with bed.connection(f"dies-{how}", remote_addrs=["%any"]) as name, bed.connected(own) as mine:
        session = mine.session
        assert ip_address(PEERS_2) in session.info.peer_addresses
        assert session.path.remote.host == ip_address(bed.peers)
        with Ping(bed.ours, IPv4Address(bed.our_inner), IPv4Address(bed.peer_inner), 0.02, 0.0) as ping:
            assert ping.wait_for_reply(LIMIT_SECONDS) is not None
            with failed_link(bed, how):
                bed.wait(session, lambda: str(session.path.local.host) == OURS_2)
                assert ping.wait_for_reply(LIMIT_SECONDS, since=time.time() + 0.05) is not None
                # where only inbound packets are dropped, charon's first address still works from our second one
                assert str(session.path.remote.host) in ((PEERS_2,) if how == "down" else (PEERS_2, bed.peers))
                (sa,) = bed.vici.sas(name)
                assert (sa["remote-host"], sa["local-host"]) == (OURS_2, str(session.path.remote.host))
        assert mine.metrics.dpd_timeout == 0


def checks_received(bed: Bed) -> int:
    """Count the COOKIE2 requests that charon received (RFC 4555, 3.7); an address update holds other notifies as well."""
    return len(re.findall(r"parsed INFORMATIONAL request \d+ \[ N\(COOKIE2\) \]", bed.charon_log()))


def test_charon_moves_to_our_other_address(two_links: Bed) -> None:
    """charon initiates, then its link fails; it knows our second address from our list, and returns our COOKIE2 from there."""
    bed = two_links
    own = with_fast_retransmission(bed.server()).with_options(
        local_addresses=(ip_address(bed.ours_address), ip_address(OURS_2))
    )
    with bed.connection("moves", local_addrs=["%any"]) as name, bed.accepted(own, name, EVERY_ADDRESS) as session:
        assert ip_address(PEERS_2) in session.info.peer_addresses
        bed.ping()
        checks = checks_received(bed)
        bed.peer.run("ip", "link", "set", "wan", "down")
        try:
            bed.wait(session, lambda: str(session.path.remote.host) == PEERS_2)
            bed.wait_for_pings()
            # before the link is up again: charon may move back then, and each further update is checked as well
            assert checks_received(bed) > checks
            assert str(session.path.local.host) == OURS_2
            bed.ping()
            (sa,) = bed.vici.sas(name)
            assert (sa["remote-host"], sa["local-host"]) == (OURS_2, PEERS_2)
        finally:
            bed.peer.run("ip", "link", "set", "wan", "up")


def test_our_client_follows_when_charon_loses_its_address(two_links: Bed) -> None:
    """As responder charon must not move the SAs: it tries our other addresses, on port 4500, and announces its own."""
    bed = two_links
    own = with_fast_retransmission(bed.client()).with_local_addresses(bed.ours_address, OURS_2).with_dpd(None)
    own.with_local_ports(500, 4500)
    with bed.connection("loses", local_addrs=["%any"], remote_addrs=["%any"]), bed.connected(own) as mine:
        bed.ping()
        bed.peer.run("ip", "address", "del", f"{bed.peers}/24", "dev", "wan")
        try:
            session = mine.session
            bed.wait(session, lambda: str(session.path.remote.host) == PEERS_2)
            bed.wait_for_pings()
            bed.ping()
        finally:
            bed.peer.run("ip", "address", "add", f"{bed.peers}/24", "dev", "wan")
