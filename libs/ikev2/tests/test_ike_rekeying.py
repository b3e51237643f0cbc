"""Rekeying, deletion and their collisions (RFC 7296, 2.8 and 2.25)."""

from collections.abc import Callable

import pytest

from warren_ikev2.children import ChildUsage
from warren_ikev2.configuration import IkeLifetime, Lifetime
from warren_ikev2.events import (
    ChildSaDeleted,
    ChildSaFailed,
    ChildSaRekeyed,
    DeleteReason,
    IkeSaDeleted,
    IkeSaRekeyed,
    PeerUnresponsive,
    RequestRefused,
)
from warren_testkit.ikev2.pair import MOON_NET, SUN_NET, Host, Pair, make_child, make_pair
from warren_testkit.ikev2.proposals import parse_esp_proposals, parse_ike_proposals


def rekey_child(pair: Pair, host: Host) -> None:
    session = pair.moon_session if host is pair.moon else pair.sun_session
    host.endpoint.commands.rekey_child(session, host.children[0].spi_in, pair.wire.now)


def rekey_ike(pair: Pair, host: Host) -> None:
    session = pair.moon_session if host is pair.moon else pair.sun_session
    host.endpoint.commands.rekey_ike(session, pair.wire.now)


def settled(pair: Pair, ike_sas: int = 1, children: int = 1) -> None:
    """After a while both sides have the same, expected SAs, and they work."""
    pair.wire.run(60)
    assert (pair.moon.endpoint.size, pair.sun.endpoint.size) == (ike_sas, ike_sas)
    assert len(pair.moon.children) == children
    pair.check_children()
    if ike_sas:
        pair.moon.endpoint.commands.check_liveness(pair.moon_session, pair.wire.now)
        pair.wire.run(20)
    for host in (pair.moon, pair.sun):
        assert not host.all(PeerUnresponsive)


@pytest.mark.parametrize("group", ["", "-x25519", "-ecp256", "-modp2048", "-x25519-ke1_mlkem768"])
@pytest.mark.parametrize("role", ["moon", "sun"])
def test_child_is_rekeyed_by_either_side(role: str, group: str) -> None:
    esp = f"aes256gcm16{group}"
    pair = make_pair(
        moon={"children": (make_child(MOON_NET, SUN_NET, esp),)},
        sun={"children": (make_child(SUN_NET, MOON_NET, esp),)},
    ).establish()
    host = getattr(pair, role)
    old = host.children[0]
    rekey_child(pair, host)
    settled(pair)
    assert host.children[0].spi_in != old.spi_in
    assert str(host.children[0].suite) == esp
    assert [event.initiated for event in host.all(ChildSaRekeyed)] == [True]
    other = pair.sun if host is pair.moon else pair.moon
    assert [event.seconds for event in other.all(ChildSaRekeyed)] == [None]  # it did not begin
    assert all(0 < (event.seconds or 0) < 2 for event in host.all(ChildSaRekeyed))
    for side in (pair.moon, pair.sun):
        assert [event.reason for event in side.all(ChildSaDeleted)] == [DeleteReason.REKEYED]


@pytest.mark.parametrize(
    "proposal",
    ["aes256gcm16-prfsha384-x25519", "aes256-sha256-ecp256", "chacha20poly1305-prfsha256-x25519-ke1_mlkem768"],
)
@pytest.mark.parametrize("role", ["moon", "sun"])
def test_ike_is_rekeyed_by_either_side(role: str, proposal: str) -> None:
    proposals = parse_ike_proposals(proposal)
    pair = make_pair(moon={"ike_proposals": proposals}, sun={"ike_proposals": proposals}).establish()
    host = getattr(pair, role)
    for _ in range(3):
        rekey_ike(pair, host)
        settled(pair)
    assert len(pair.moon.all(IkeSaRekeyed)) == len(pair.sun.all(IkeSaRekeyed)) == 3
    assert all(0 < (event.seconds or 0) < 2 for event in host.all(IkeSaRekeyed))
    assert not pair.moon.all(IkeSaDeleted)
    rekey_child(pair, pair.moon)
    settled(pair)


def test_another_group_for_a_child_is_retried() -> None:
    pair = make_pair(
        moon={"children": (make_child(MOON_NET, SUN_NET, "aes256gcm16-x25519-ecp256"),)},
        sun={"children": (make_child(SUN_NET, MOON_NET, "aes256gcm16-ecp256"),)},
    ).establish()
    rekey_child(pair, pair.moon)
    settled(pair)
    assert str(pair.moon.children[0].suite) == "aes256gcm16-ecp256"


def test_different_pfs_groups_fail_and_keep_the_old_sa() -> None:
    pair = make_pair(
        moon={"children": (make_child(MOON_NET, SUN_NET, "aes256gcm16-x25519"),)},
        sun={"children": (make_child(SUN_NET, MOON_NET, "aes256gcm16-ecp256"),)},
    ).establish()
    rekey_child(pair, pair.moon)
    settled(pair)
    assert pair.moon.last(ChildSaFailed)
    refused = pair.sun.last(RequestRefused)
    assert (refused.exchange, refused.notify) == ("CREATE_CHILD_SA", "NO_PROPOSAL_CHOSEN")
    assert refused.reason == "the peer offers aes256gcm16-x25519-noesn; configured is aes256gcm16-ecp256-noesn"


# Collisions: both sides act before either receives the other's message.


def let_lead(pair: Pair, lead: str) -> None:
    """From now on the datagrams of this side arrive first; None: no side's."""
    slow = {"moon": pair.sun, "sun": pair.moon}.get(lead)
    pair.wire.fate = lambda datagram: (
        (0.1,) if slow is not None and datagram.path.local.host == slow.address.host else (0.01,)
    )


def collided(rekey: Callable[[Pair, Host], None], lead: str, attempt: int) -> Pair:
    """A pair whose sides have both rekeyed at once, after `attempt` times one after the other."""
    pair = make_pair().establish()
    for _ in range(attempt):
        rekey(pair, pair.moon)
        pair.wire.run(1)
    let_lead(pair, lead)
    rekey(pair, pair.moon)
    rekey(pair, pair.sun)
    settled(pair)
    return pair


@pytest.mark.parametrize("lead", ["moon", "sun", "both"])
@pytest.mark.parametrize("attempt", range(4))
def test_both_rekey_the_same_child(lead: str, attempt: int) -> None:
    """The nonces, and so the winner, differ with each attempt."""
    pair = collided(rekey_child, lead, attempt)
    for host in (pair.moon, pair.sun):
        reasons = sorted(event.reason.value for event in host.all(ChildSaDeleted)[attempt:])
        assert "rekeyed" in reasons
        assert len(reasons) == 2


@pytest.mark.parametrize("lead", ["moon", "sun", "both"])
@pytest.mark.parametrize("attempt", range(4))
def test_both_rekey_the_ike_sa(lead: str, attempt: int) -> None:
    pair = collided(rekey_ike, lead, attempt)
    assert pair.moon.last(IkeSaRekeyed).spi_i == pair.sun.last(IkeSaRekeyed).spi_i
    assert not pair.moon.all(IkeSaDeleted)
    assert not pair.sun.all(IkeSaDeleted)


@pytest.mark.parametrize("late", ["moon", "sun"])
def test_a_rekey_request_that_arrives_after_the_other_one_is_done(late: str) -> None:
    """The late request finds the SA gone, or replaced: nothing fails (2.8.1)."""
    pair = make_pair().establish()
    host = getattr(pair, late)
    pair.wire.fate = lambda datagram: (0.5,) if datagram.path.local.host == host.address.host else (0.01,)
    rekey_child(pair, host)
    pair.wire.collect()
    pair.wire.fate = lambda datagram: (0.01,)
    rekey_child(pair, pair.sun if host is pair.moon else pair.moon)
    settled(pair)


@pytest.mark.parametrize("late", ["moon", "sun"])
def test_a_late_rekey_request_for_the_ike_sa(late: str) -> None:
    pair = make_pair().establish()
    host = getattr(pair, late)
    pair.wire.fate = lambda datagram: (0.5,) if datagram.path.local.host == host.address.host else (0.01,)
    rekey_ike(pair, host)
    pair.wire.collect()
    pair.wire.fate = lambda datagram: (0.01,)
    rekey_ike(pair, pair.sun if host is pair.moon else pair.moon)
    settled(pair)
    assert not pair.moon.all(IkeSaDeleted)


def test_both_delete_the_same_child() -> None:
    pair = make_pair().establish()
    pair.moon.endpoint.commands.delete_child(pair.moon_session, pair.moon.children[0].spi_in, pair.wire.now)
    pair.sun.endpoint.commands.delete_child(pair.sun_session, pair.sun.children[0].spi_in, pair.wire.now)
    settled(pair, children=0)
    assert len(pair.moon.all(ChildSaDeleted)) == len(pair.sun.all(ChildSaDeleted)) == 1


def test_one_deletes_what_the_other_rekeys() -> None:
    pair = make_pair().establish()
    pair.moon.endpoint.commands.delete_child(pair.moon_session, pair.moon.children[0].spi_in, pair.wire.now)
    rekey_child(pair, pair.sun)
    settled(pair, children=0)


def test_one_rekeys_the_child_while_the_other_rekeys_the_ike_sa() -> None:
    """Temporary failures are repeated later (2.25.2): in the end both are new."""
    pair = make_pair().establish()
    old = pair.moon.children[0]
    rekey_child(pair, pair.moon)
    rekey_ike(pair, pair.sun)
    settled(pair)
    assert pair.moon.children[0].spi_in != old.spi_in
    assert pair.moon.all(IkeSaRekeyed)


def test_both_delete_the_ike_sa() -> None:
    pair = make_pair().establish()
    pair.moon.endpoint.commands.delete(pair.moon_session, pair.wire.now)
    pair.sun.endpoint.commands.delete(pair.sun_session, pair.wire.now)
    settled(pair, ike_sas=0, children=0)
    assert len(pair.moon.all(IkeSaDeleted)) == len(pair.sun.all(IkeSaDeleted)) == 1


def test_one_deletes_the_ike_sa_while_the_other_rekeys_it() -> None:
    pair = make_pair().establish()
    pair.moon.endpoint.commands.delete(pair.moon_session, pair.wire.now)
    rekey_ike(pair, pair.sun)
    settled(pair, ike_sas=0, children=0)


def test_one_deletes_the_ike_sa_while_the_other_rekeys_the_child() -> None:
    pair = make_pair().establish()
    pair.moon.endpoint.commands.delete(pair.moon_session, pair.wire.now)
    rekey_child(pair, pair.sun)
    settled(pair, ike_sas=0, children=0)


def test_several_children() -> None:
    others = tuple(
        make_child(MOON_NET, SUN_NET, name=f"net{index}", esp_proposals=parse_esp_proposals("chacha20poly1305"))
        for index in range(3)
    )
    pair = make_pair(
        moon={"children": (make_child(MOON_NET, SUN_NET), *others)},
        sun={
            "children": (
                make_child(SUN_NET, MOON_NET, "aes256gcm16"),
                make_child(SUN_NET, MOON_NET, "chacha20poly1305", name="x"),
            ),
        },
    ).establish()
    for other in others:
        pair.moon.endpoint.commands.create_child(pair.moon_session, other.name, pair.wire.now)
    settled(pair, children=4)
    rekey_ike(pair, pair.sun)
    settled(pair, children=4)


# Lifetimes


def test_soft_limits_rekey_and_hard_limits_delete() -> None:
    short = Lifetime(soft_seconds=100, hard_seconds=120, jitter=0)
    long = Lifetime(None, None)
    pair = make_pair(
        moon={"children": (make_child(MOON_NET, SUN_NET, lifetime=short),)},
        sun={"children": (make_child(SUN_NET, MOON_NET, lifetime=long),)},
    ).establish()
    pair.wire.run(1000)
    assert 8 <= len(pair.moon.all(ChildSaRekeyed)) <= 10
    settled(pair)
    pair.wire.fate = lambda datagram: ()
    pair.wire.run(400)
    assert not pair.moon.children


@pytest.mark.parametrize("usage", [ChildUsage(bytes_in=1000), ChildUsage(packets_out=10)])
def test_limits_by_bytes_and_packets(usage: ChildUsage) -> None:
    lifetime = Lifetime(None, None, soft_bytes=1000, hard_bytes=2000, soft_packets=10, hard_packets=20, jitter=0)
    pair = make_pair(moon={"children": (make_child(MOON_NET, SUN_NET, lifetime=lifetime),)}).establish()
    spi = pair.moon.children[0].spi_in
    pair.moon.endpoint.reports.child_usage(spi, ChildUsage(), pair.wire.now)
    pair.wire.run(1)
    assert not pair.moon.all(ChildSaRekeyed)
    pair.moon.endpoint.reports.child_usage(spi, usage, pair.wire.now)
    pair.moon.endpoint.reports.child_usage(spi, usage, pair.wire.now)
    settled(pair)
    assert len(pair.moon.all(ChildSaRekeyed)) == 1
    spi = pair.moon.children[0].spi_in
    pair.moon.endpoint.reports.child_usage(spi, ChildUsage(bytes_out=3000, packets_in=30), pair.wire.now)
    settled(pair, children=0)
    assert pair.moon.last(ChildSaDeleted).reason == DeleteReason.EXPIRED


def test_sequence_numbers_that_run_out_rekey() -> None:
    pair = make_pair().establish()
    pair.moon.endpoint.reports.sequence_exhausted(pair.moon.children[0].spi_in, pair.wire.now)
    settled(pair)
    assert pair.moon.all(ChildSaRekeyed)


def test_the_ike_sa_rekeys_by_itself_and_never_grows() -> None:
    lifetime = IkeLifetime(rekey_seconds=50, jitter=0.5)
    child = Lifetime(soft_seconds=20, hard_seconds=60, jitter=0.5)
    pair = make_pair(
        moon={"lifetime": lifetime, "children": (make_child(MOON_NET, SUN_NET, lifetime=child),)},
        sun={"lifetime": lifetime, "children": (make_child(SUN_NET, MOON_NET, lifetime=child),)},
    ).establish()
    for _ in range(50):
        pair.wire.run(100)
        assert pair.moon.endpoint.size <= 4
    assert len(pair.moon.all(IkeSaRekeyed)) > 80
    assert not pair.moon.all(IkeSaDeleted)
    assert not pair.moon.all(ChildSaFailed)
    assert not pair.moon.all(PeerUnresponsive)
    assert len(pair.moon.endpoint.state.child_sessions) < 40
    assert len(pair.moon.endpoint.state.ike_sas) <= 4
