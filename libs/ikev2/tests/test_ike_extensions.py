"""Virtual addresses, PPK, EAP, additional key exchanges, several connections."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from warren_ikev2.configuration import AddressPool, IkeLifetime, Mode
from warren_ikev2.constants import NotifyType
from warren_ikev2.credentials import (
    CertificateAuth,
    CertificateTrust,
    EapGtcAuth,
    EapMschapv2Auth,
    EapTrust,
    Ppk,
    PskAuth,
)
from warren_ikev2.events import (
    AuthenticationFailed,
    ChildSaFailed,
    DeleteReason,
    HandshakeFailed,
    IkeSaDeleted,
    IkeSaEstablished,
    LoginRequested,
    ReauthenticationDue,
)
from warren_ikev2.selectors import TrafficSelector
from warren_testkit.ikev2.keys import Authority, make_key
from warren_testkit.ikev2.logins import by_password
from warren_testkit.ikev2.pair import MOON_NET, SUN_NET, Pair, Wire, make_child, make_connection, make_host, make_pair
from warren_testkit.ikev2.proposals import parse_ike_proposals

EVERYTHING = TrafficSelector.parse("0.0.0.0/0")


# Configuration payload


def roadwarrior(pool: AddressPool | None, versions: tuple[int, ...] = (4,)) -> Pair:
    everything = (EVERYTHING, TrafficSelector.parse("::/0"))
    return make_pair(
        moon={
            "children": (make_child(MOON_NET, SUN_NET, local_ts=(), remote_ts=everything),),
            "request_addresses": versions,
        },
        sun={
            "children": (make_child(SUN_NET, MOON_NET, local_ts=(SUN_NET,), remote_ts=()),),
            "address_pool": pool,
        },
    )


def test_a_virtual_address_with_dns_and_subnets() -> None:
    pool = AddressPool(
        (ip_network("10.9.0.0/29"), ip_network("2001:db8:9::/120")),
        (ip_address("10.2.0.53"), ip_address("2001:db8::53")),
        (ip_network("10.2.0.0/16"), ip_network("2001:db8:2::/48")),
    )
    pair = roadwarrior(pool, (4, 6)).establish()
    network = pair.moon.last(IkeSaEstablished).network
    assert network == pair.sun.last(IkeSaEstablished).network
    assert network.addresses == (ip_address("10.9.0.1"), ip_address("2001:db8:9::1"))
    assert network.dns == pool.dns
    assert network.subnets == pool.subnets
    assert pair.moon.children[0].local_ts == tuple(TrafficSelector.from_host(host) for host in network.addresses)


def test_addresses_are_released() -> None:
    pair = roadwarrior(AddressPool((ip_network("10.9.0.1/32"),)))
    for _ in range(3):
        pair.establish()
        assert pair.moon.last(IkeSaEstablished).network.addresses == (ip_address("10.9.0.1"),)
        pair.moon.endpoint.commands.delete(pair.moon_session, pair.wire.now)
        pair.wire.run(30)


def test_an_exhausted_pool_fails_only_the_child() -> None:
    pair = roadwarrior(AddressPool((ip_network("10.9.0.1/32"),)))
    pair.establish()
    configuration = pair.moon.endpoint.state.configuration.connections[0]
    other = make_host("mars", "192.0.2.3", replace(configuration, initial_contact=False))
    pair.wire.hosts.append(other)
    pair.wire.initiate(other, pair.sun, "gw")
    pair.wire.run(1)
    assert other.last(ChildSaFailed).notify == NotifyType.INTERNAL_ADDRESS_FAILURE
    assert not other.children


def test_a_required_address_must_be_requested() -> None:
    pair = make_pair(sun={"address_pool": AddressPool((ip_network("10.9.0.0/29"),), required=True)})
    pair.start()
    pair.wire.run(1)
    assert pair.moon.last(ChildSaFailed).notify == NotifyType.FAILED_CP_REQUIRED


# PPK


def test_both_know_the_ppk() -> None:
    ppk = Ppk(b"warren-1", b"long and random")
    pair = make_pair({"ppk": ppk}, {"ppk": ppk}).establish()
    assert pair.moon.last(IkeSaEstablished).ppk_id == pair.sun.last(IkeSaEstablished).ppk_id == b"warren-1"
    pair.moon.endpoint.commands.rekey_ike(pair.moon_session, pair.wire.now)
    pair.wire.run(1)
    pair.moon.endpoint.commands.create_child(pair.moon_session, "net", pair.wire.now)
    pair.wire.run(1)
    pair.check_children()
    assert len(pair.moon.children) == 2


def test_another_ppk_is_refused() -> None:
    pair = make_pair({"ppk": Ppk(b"warren-1", b"long and random")}, {"ppk": Ppk(b"warren-1", b"another")})
    pair.start()
    pair.wire.run(30)
    assert pair.moon.last(AuthenticationFailed).by_peer


@pytest.mark.parametrize("requiring", ["moon", "sun"])
def test_a_required_ppk_must_be_used(requiring: str) -> None:
    fields = {"ppk": Ppk(b"warren-1", b"long and random")}
    pair = make_pair(fields) if requiring == "moon" else make_pair(sun=fields)
    pair.start()
    pair.wire.run(60)
    assert not pair.moon.all(IkeSaEstablished)
    assert not pair.sun.all(IkeSaEstablished)


def test_an_optional_ppk_of_only_one_side_is_not_used() -> None:
    known = {"ppk": Ppk(b"warren-1", b"long and random", required=False)}
    other = {"ppk": Ppk(b"warren-2", b"another", required=False)}
    for moon, sun in ((known, {}), ({}, known), (known, other)):
        pair = make_pair(moon, sun).establish()
        assert pair.moon.last(IkeSaEstablished).ppk_id is pair.sun.last(IkeSaEstablished).ppk_id is None


# EAP


def eap(auth: EapGtcAuth | EapMschapv2Auth, users: dict[str, str]) -> Pair:
    root, key = Authority.make("Root"), make_key("ecdsa-p256")
    server = CertificateAuth((root.issue("sun", key),), key)
    return make_pair(
        moon={"local_auth": auth, "remote_auth": CertificateTrust((root.certificate,))},
        sun={
            "local_auth": server,
            "remote_auth": EapTrust(),
            "remote_identity": None,
        },
        verify=by_password(users),
    )


def test_eap_gtc() -> None:
    pair = eap(EapGtcAuth("carol", "Sesam öffne dich"), {"carol": "Sesam öffne dich"}).establish()
    assert pair.sun.last(IkeSaEstablished).eap_identity == "carol"
    assert pair.sun.last(IkeSaEstablished).remote_auth == "eap-gtc"
    assert pair.moon.last(IkeSaEstablished).local_auth == "eap-gtc"
    assert "Sesam" not in repr(pair.moon.events) + repr(pair.sun.events)


@pytest.mark.parametrize(
    "auth", [EapGtcAuth("carol", "wrong"), EapGtcAuth("eve", "secret"), EapMschapv2Auth("carol", "secret")]
)
def test_eap_gtc_refused(auth: EapGtcAuth | EapMschapv2Auth) -> None:
    pair = eap(auth, {"carol": "secret"})
    pair.start()
    pair.wire.run(30)
    assert pair.sun.last(AuthenticationFailed)
    assert pair.moon.last(AuthenticationFailed)
    assert not pair.sun.all(IkeSaEstablished)
    assert pair.moon.endpoint.size == pair.sun.endpoint.size == 0


def test_no_password_is_sent_to_an_unauthenticated_server() -> None:
    """The server's certificate comes from an unauthenticated peer: the client ends the handshake before it answers EAP."""
    pair = eap(EapGtcAuth("carol", "secret"), {"carol": "secret"})
    strange = Authority.make("Root")
    configuration = pair.moon.endpoint.state.configuration.connections[0]
    fields: dict[str, Any] = {
        "local_auth": configuration.local_auth,
        "remote_auth": CertificateTrust((strange.certificate,)),
    }
    moon = make_host("moon", "192.0.2.1", make_connection("moon", "sun", **fields))
    server = pair.sun.endpoint.state.configuration.connections[0]
    answering = make_connection("sun", None, local_auth=server.local_auth, remote_auth=EapTrust())
    sun = make_host("sun", "192.0.2.2", answering)
    pair = Pair(moon, sun, Wire(moon, sun))
    pair.start()
    pair.wire.run(30)
    assert pair.moon.last(AuthenticationFailed)
    assert not pair.sun.all(LoginRequested)


# RFC 9370


@pytest.mark.parametrize(
    "additional", ["ke1_mlkem768", "ke1_mlkem1024", "ke1_mlkem768-ke2_x448", "ke1_ecp384-ke2_mlkem768-ke3_modp2048"]
)
@pytest.mark.parametrize("size", [None, 1280])
def test_additional_key_exchanges(additional: str, size: int | None) -> None:
    fields = {
        "ike_proposals": parse_ike_proposals(f"aes256gcm16-prfsha384-x25519-{additional}"),
        "fragment_size": size,
    }
    pair = make_pair(moon=fields, sun=fields).establish()
    assert str(pair.moon.last(IkeSaEstablished).suite).endswith(additional)


def test_an_additional_key_exchange_is_optional_with_none() -> None:
    pair = make_pair(
        moon={"ike_proposals": parse_ike_proposals("aes256gcm16-prfsha384-x25519-ke1_mlkem768-ke1_none")},
        sun={"ike_proposals": parse_ike_proposals("aes256gcm16-prfsha384-x25519")},
    ).establish()
    assert str(pair.moon.last(IkeSaEstablished).suite) == "aes256gcm16-prfsha384-x25519"


# Connections


def test_the_responder_picks_the_connection_by_identities_and_address() -> None:
    sun = make_host(
        "sun",
        "192.0.2.2",
        make_connection("sun", "mars", name="elsewhere", remote_addresses=(ip_network("198.51.100.0/24"),)),
        make_connection("sun", None, name="anybody"),
        make_connection("sun", "moon", name="moon", local_auth=PskAuth(b"x"), remote_auth=PskAuth(b"x")),
    )
    moon = make_host(
        "moon", "192.0.2.1", make_connection("moon", "sun", local_auth=PskAuth(b"x"), remote_auth=PskAuth(b"x"))
    )
    pair = Pair(moon, sun, Wire(moon, sun))
    pair.start()
    pair.wire.run(1)
    assert sun.last(IkeSaEstablished).connection == "moon"


def test_initial_contact_ends_only_older_sas_of_the_same_identity() -> None:
    fields = {"local_auth": PskAuth(b"m"), "remote_auth": PskAuth(b"s"), "children": (make_child(MOON_NET, SUN_NET),)}
    mars = make_connection("mars", "sun", **fields)
    pair = make_pair()
    sun = make_host(
        "sun",
        "192.0.2.2",
        make_connection("sun", "moon"),
        make_connection("sun", "mars", name="mars", local_auth=PskAuth(b"s"), remote_auth=PskAuth(b"m")),
    )
    other = make_host("mars", "192.0.2.3", mars)
    pair = Pair(pair.moon, sun, Wire(pair.moon, sun, other))
    pair.establish()
    pair.wire.initiate(other, sun, "gw")
    pair.wire.run(1)
    again = make_host("moon again", "192.0.2.1", make_connection("moon", "sun"))
    pair.wire.hosts = [again, sun, other]
    pair.wire.initiate(again, sun, "gw")
    pair.wire.run(1)
    assert [event.reason for event in sun.all(IkeSaDeleted)] == [DeleteReason.INITIAL_CONTACT]
    assert sun.last(IkeSaDeleted).connection == "gw"
    assert len(sun.children) == 2


def test_transport_mode() -> None:
    moon = make_child(MOON_NET, SUN_NET, local_ts=(), remote_ts=(), mode=Mode.TRANSPORT)
    sun = make_child(SUN_NET, MOON_NET, local_ts=(), remote_ts=(), mode=Mode.TRANSPORT)
    pair = make_pair(moon={"children": (moon,)}, sun={"children": (sun,)}).establish()
    assert pair.moon.children[0].mode == pair.sun.children[0].mode == Mode.TRANSPORT
    assert str(pair.moon.children[0].local_ts[0]) == "192.0.2.1/32"


def test_reauthentication_is_announced() -> None:
    pair = make_pair(moon={"lifetime": IkeLifetime(rekey_seconds=None, reauth_seconds=100.0)}).establish()
    pair.wire.run(200)
    assert len(pair.moon.all(ReauthenticationDue)) == 1


def test_a_responder_demands_reauthentication() -> None:
    """RFC 4478."""
    pair = make_pair(sun={"lifetime": IkeLifetime(rekey_seconds=None, reauth_seconds=100.0)}).establish()
    pair.wire.run(85)
    assert not pair.moon.all(ReauthenticationDue)
    pair.wire.run(10)
    assert len(pair.moon.all(ReauthenticationDue)) == 1
    assert not pair.sun.all(ReauthenticationDue)


def test_esn_is_negotiated() -> None:
    moon = make_child(MOON_NET, SUN_NET, "aes256gcm16-esn-noesn")
    pair = make_pair(moon={"children": (moon,)}, sun={"children": (make_child(SUN_NET, MOON_NET, "aes256gcm16-esn"),)})
    assert pair.establish().moon.children[0].esn
    pair = make_pair(moon={"children": (moon,)}).establish()
    assert not pair.moon.children[0].esn
    assert not pair.moon.all(HandshakeFailed)


def test_connections_can_be_replaced_at_run_time() -> None:
    pair = make_pair()
    connection = pair.sun.endpoint.state.configuration.connections[0]
    pair.sun.endpoint.set_connections(())
    pair.start()
    pair.wire.run(10)
    assert pair.moon.last(HandshakeFailed).notify == NotifyType.NO_PROPOSAL_CHOSEN
    pair.sun.endpoint.set_connections((connection,))
    pair.establish()


def test_exported_keys_are_those_of_both_sides() -> None:
    pair = make_pair().establish()
    keys = pair.moon.endpoint.commands.decryption_keys(pair.moon_session)
    assert keys == pair.sun.endpoint.commands.decryption_keys(pair.sun_session)
    assert keys.ei.hex() not in repr(keys)
    assert repr(keys.ei) not in repr(keys)
