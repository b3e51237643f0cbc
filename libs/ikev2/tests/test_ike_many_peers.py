"""Connections for many peers: pools with reserved and fixed addresses, what each may reach, and second connections of one peer."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from warren_ikev2.auth.login import LoginVerdict
from warren_ikev2.configuration import AddressPool, PeerSettings, Uniqueness
from warren_ikev2.constants import NotifyType
from warren_ikev2.credentials import EapGtcAuth, EapTrust, RawKeyAuth, RawKeyTrust
from warren_ikev2.events import (
    AuthenticationFailed,
    ChildSaFailed,
    ChildSaRekeyed,
    DeleteReason,
    IkeSaDeleted,
    IkeSaEstablished,
    SessionId,
)
from warren_ikev2.ike_sa import LINGER
from warren_ikev2.selectors import TrafficSelector
from warren_testkit.ikev2.keys import make_key
from warren_testkit.ikev2.pair import LATENCY, SUN_NET, Pair, make_child, make_host, make_pair

EVERYTHING = TrafficSelector.parse("0.0.0.0/0")
POOL = ip_network("10.66.0.0/29")
OWN = ip_address("10.66.0.1")


def vpn(pool: AddressPool, **sun: Any) -> Pair:
    """Moon asks for an address; sun is the server of a pool, and trusts moon's raw key."""
    keys = make_key("ed25519"), make_key("ed25519")
    child = make_child(EVERYTHING, EVERYTHING)
    return make_pair(
        moon={
            "local_auth": RawKeyAuth(keys[0]), "remote_auth": RawKeyTrust((keys[1].public_key(),)),
            "request_addresses": (4,), "children": (replace(child, local_ts=()),), "initial_contact": False,
        },
        sun={
            "local_auth": RawKeyAuth(keys[1]), "remote_auth": RawKeyTrust((keys[0].public_key(),)),
            "children": (replace(child, remote_ts=()),), "address_pool": pool, **sun,
        },
    )  # fmt: skip


def addresses(pair: Pair) -> list[str]:
    """Of every IKE_SA that sun has established, oldest first."""
    return [str(address) for event in pair.sun.all(IkeSaEstablished) for address in event.network.addresses]


def connect(pair: Pair) -> None:
    pair.start()
    pair.wire.run(1)


def test_reserved_addresses_stay_free() -> None:
    reserved = frozenset({OWN, ip_address("10.66.0.2")})
    pair = vpn(AddressPool((POOL,), reserved=reserved))
    connect(pair)
    assert addresses(pair) == ["10.66.0.3"]


def test_a_peer_gets_its_own_address_and_reaches_only_its_networks() -> None:
    fixed = ip_address("10.66.0.5")
    settings = PeerSettings((fixed,), (SUN_NET,))
    pair = vpn(AddressPool((POOL,), reserved=frozenset({OWN, fixed})), peers={"moon": settings})
    connect(pair)
    assert addresses(pair) == ["10.66.0.5"]
    (child,) = pair.sun.children
    assert (child.local_ts, child.remote_ts) == ((SUN_NET,), (TrafficSelector.from_host(fixed),))


def test_a_peer_that_is_not_listed_is_refused() -> None:
    pair = vpn(AddressPool((POOL,)), peers={"mars": PeerSettings()})
    connect(pair)
    assert not pair.sun.all(IkeSaEstablished)
    assert pair.sun.last(AuthenticationFailed).reason == "moon may not use this connection"


def test_an_exhausted_pool_refuses_the_child_only() -> None:
    pair = vpn(AddressPool((ip_network("10.66.0.0/30"),), reserved=frozenset({OWN, ip_address("10.66.0.2")})))
    connect(pair)
    assert pair.sun.last(ChildSaFailed).notify == NotifyType.INTERNAL_ADDRESS_FAILURE
    assert pair.moon.last(ChildSaFailed).notify == NotifyType.INTERNAL_ADDRESS_FAILURE
    assert not pair.sun.children


def test_a_second_connection_replaces_the_first_and_takes_over_its_address() -> None:
    fixed = ip_address("10.66.0.5")
    pool = AddressPool((POOL,), reserved=frozenset({OWN, fixed}))
    pair = vpn(pool, peers={"moon": PeerSettings((fixed,))}, uniqueness=Uniqueness.REPLACE)
    connect(pair)
    connect(pair)
    assert addresses(pair) == ["10.66.0.5", "10.66.0.5"]
    assert pair.sun.last(IkeSaDeleted).reason is DeleteReason.REPLACED
    assert len(pair.sun.children) == 1


# ---- what the replaced peer learns (RFC 7296, 1.4.1)


def replacing(*, announce: bool = True) -> Pair:
    """Sun replaces moon's session when moon connects again; `announce`: moon understands the reason."""
    pair = vpn(AddressPool((POOL,)), uniqueness=Uniqueness.REPLACE)
    (moon,) = pair.moon.endpoint.state.configuration.connections
    pair.moon.endpoint.set_connections((replace(moon, announce_vendor=announce),))
    return pair


@pytest.mark.parametrize(("announce", "reason"), [(True, DeleteReason.PEER_REPLACED), (False, DeleteReason.PEER)])
def test_a_replaced_peer_gets_a_delete_after_the_response_to_the_login(announce: bool, reason: DeleteReason) -> None:
    pair = replacing(announce=announce)
    connect(pair)
    connect(pair)
    first, second = pair.moon.all(IkeSaEstablished)
    (ended,) = pair.moon.all(IkeSaDeleted)
    assert (ended.session, ended.reason) == (first.session, reason)
    assert pair.moon.events.index(second) < pair.moon.events.index(ended)
    assert len(pair.moon.children) == 1
    assert pair.sun.endpoint.size == 1


def test_initial_contact_deletes_at_the_other_end_too() -> None:
    """It may come from another device of the same identity, although it must not (2.4)."""
    pair = replacing()
    connect(pair)
    (moon,) = pair.moon.endpoint.state.configuration.connections
    other = make_host("mars", "192.0.2.3", replace(moon, initial_contact=True))
    pair.wire.hosts.append(other)
    pair.wire.initiate(other, pair.sun, "gw")
    pair.wire.run(1)
    assert pair.sun.last(IkeSaDeleted).reason is DeleteReason.INITIAL_CONTACT
    assert pair.moon.last(IkeSaDeleted).reason is DeleteReason.PEER_REPLACED


def test_the_ike_sa_of_a_replaced_peer_that_is_gone_ends_soon() -> None:
    pair = replacing()
    connect(pair)
    gone = pair.moon
    pair.wire.hosts.remove(gone)
    (moon,) = gone.endpoint.state.configuration.connections
    other = make_host("mars", "192.0.2.3", moon)
    pair.wire.hosts.append(other)
    pair.wire.initiate(other, pair.sun, "gw")
    pair.wire.run(1)
    assert len(pair.sun.children) == 1
    assert pair.sun.endpoint.size == 2
    pair.wire.run(LINGER)
    assert pair.sun.endpoint.size == 1
    assert len(pair.sun.all(IkeSaDeleted)) == 1


def test_an_exchange_under_way_brings_nothing_back_into_a_replaced_session() -> None:
    pair = replacing()
    connect(pair)
    (child,) = pair.sun.children
    pair.sun.endpoint.commands.rekey_child(pair.sun_session, child.spi_in, pair.wire.now)
    pair.wire.fate = lambda datagram: ()  # the request is lost, and repeated
    pair.wire.run(0.1)
    pair.wire.fate = lambda datagram: (LATENCY,)
    connect(pair)
    pair.wire.run(9)
    assert pair.moon.all(ChildSaRekeyed)  # it has answered
    assert not pair.sun.all(ChildSaRekeyed)
    assert len(pair.sun.children) == len(pair.moon.children) == 1
    assert pair.moon.last(IkeSaDeleted).reason is DeleteReason.PEER_REPLACED
    assert pair.sun.endpoint.size == 1


def test_a_second_connection_is_refused_while_the_first_is_there() -> None:
    pair = vpn(AddressPool((POOL,)), uniqueness=Uniqueness.REFUSE)
    connect(pair)
    first = pair.sun_session
    connect(pair)
    assert len(pair.sun.all(IkeSaEstablished)) == 1
    assert pair.sun.last(AuthenticationFailed).reason == "moon is connected already"
    pair.sun.endpoint.commands.delete(first, pair.wire.now)
    pair.wire.run(1)
    connect(pair)
    assert len(pair.sun.all(IkeSaEstablished)) == 2


@pytest.mark.parametrize(("keep", "expected"), [(True, "10.66.0.4"), (False, "10.66.0.1")])
def test_a_second_ike_sa_of_a_peer_has_the_address_of_the_first_where_that_is_wanted(keep: bool, expected: str) -> None:
    pair = vpn(AddressPool((POOL,), keep=keep))
    (moon,) = pair.moon.endpoint.state.configuration.connections
    pair.moon.endpoint.set_connections((replace(moon, preferred_addresses=(ip_address("10.66.0.4"),)),))
    connect(pair)
    first = pair.sun_session
    pair.moon.endpoint.set_connections((moon,))  # which asks for any
    connect(pair)
    assert addresses(pair) == ["10.66.0.4", expected]
    # while one of them is there, nobody else gets it
    pair.sun.endpoint.commands.delete(first, pair.wire.now)
    pair.wire.run(1)
    leases = pair.sun.endpoint.state.leases
    other = leases.allocate(AddressPool((POOL,)), 4, SessionId(99), ip_address("10.66.0.4"), "somebody else")
    assert (str(other) == "10.66.0.4") is not keep


def test_both_connections_stay_where_that_is_wanted() -> None:
    pair = vpn(AddressPool((POOL,), reserved=frozenset({OWN})))
    connect(pair)
    connect(pair)
    assert addresses(pair) == ["10.66.0.2", "10.66.0.3"]
    assert len(pair.sun.children) == 2


# ---- one user, two ways to log in


def user_pair(uniqueness: Uniqueness) -> Pair:
    """The user `alice` logs in as moon by a key, or as carol by a password."""
    peers = {"moon": PeerSettings(user="alice"), "carol": PeerSettings(user="alice"), "dave": PeerSettings(user="dave")}
    pair = vpn(AddressPool((POOL,)), peers=peers, uniqueness=uniqueness)
    by_key = pair.sun.endpoint.state.configuration.connections[0]
    by_password = replace(by_key, name="password", remote_auth=EapTrust(), remote_identity=None)
    pair.sun.endpoint.set_connections((by_key, by_password))
    pair.sun.verify = lambda attempt: LoginVerdict(True)
    return pair


def log_in(pair: Pair, user: str | None = None) -> None:
    """By the key, or as `user` by a password."""
    (moon,) = pair.moon.endpoint.state.configuration.connections
    if user is not None:
        pair.moon.endpoint.set_connections((replace(moon, local_auth=EapGtcAuth(user, "secret")),))
    connect(pair)
    pair.moon.endpoint.set_connections((moon,))


def test_a_login_replaces_the_one_of_the_same_user_by_another_proof() -> None:
    pair = user_pair(Uniqueness.REPLACE)
    for user in (None, "dave", "carol"):
        log_in(pair, user)
    assert [event.user for event in pair.sun.all(IkeSaEstablished)] == ["alice", "dave", "alice"]
    (ended,) = pair.sun.all(IkeSaDeleted)
    assert ended.session == pair.sun.all(IkeSaEstablished)[0].session
    assert ended.reason is DeleteReason.REPLACED


def test_a_peer_with_a_password_learns_the_reason_too() -> None:
    """The vendor id is in the first request, of which little is stored until EAP is over."""
    pair = user_pair(Uniqueness.REPLACE)
    (moon,) = pair.moon.endpoint.state.configuration.connections
    pair.moon.endpoint.set_connections((replace(moon, announce_vendor=True),))
    for _ in range(2):
        log_in(pair, "carol")
    assert pair.moon.last(IkeSaDeleted).reason is DeleteReason.PEER_REPLACED


def test_a_login_is_refused_while_the_user_is_connected_by_another_proof() -> None:
    pair = user_pair(Uniqueness.REFUSE)
    for user in (None, "carol"):
        log_in(pair, user)
    assert len(pair.sun.all(IkeSaEstablished)) == 1
    assert pair.sun.last(AuthenticationFailed).reason == "alice is connected already"
    assert not pair.sun.all(IkeSaDeleted)


def test_a_login_by_what_is_replaced_during_the_handshake_shows() -> None:
    pair = vpn(AddressPool((POOL,)), peers={"moon": PeerSettings(user="alice", user_version="1")})
    pair.start()
    pair.wire.step()  # IKE_SA_INIT
    (before,) = pair.sun.endpoint.state.configuration.connections
    changed = replace(before, peers={"moon": PeerSettings(user="alice", user_version="2")})
    pair.sun.endpoint.set_connections((changed,))
    pair.wire.run(1)
    assert pair.sun.last(IkeSaEstablished).user_version == "1"
    connect(pair)
    assert pair.sun.last(IkeSaEstablished).user_version == "2"
