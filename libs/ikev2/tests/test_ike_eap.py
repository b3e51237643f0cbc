"""EAP with post-quantum pre-shared keys (RFC 8784, 3), and refused EAP-only authentication (RFC 5998)."""

import pytest

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.auth.eap import EapCode, EapPacket, EapType, build_eap
from warren_ikev2.constants import ExchangeType, NotifyType, PayloadType
from warren_ikev2.credentials import CertificateAuth, CertificateTrust, EapGtcAuth, EapTrust, Ppk
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.events import AuthenticationFailed, IkeSaEstablished
from warren_ikev2.exchanges.ike_auth_initiator import IkeAuth
from warren_ikev2.ike_sa import IkeSa
from warren_ikev2.wire.message import parse_chain, parse_message
from warren_ikev2.wire.payloads import AuthPayload, CertPayload, EapPayload, IdPayload, NotifyPayload
from warren_testkit.ikev2.keys import Authority, make_key
from warren_testkit.ikev2.logins import by_password
from warren_testkit.ikev2.pair import Pair, make_pair

RIGHT = "secret"
IPCOMP_SUPPORTED = 16387  # RFC 7296, 3.10.1; the engine does not name it
KEY = Ppk(b"key-1", b"a long quantum-safe key")
OPTIONAL = Ppk(b"key-1", b"a long quantum-safe key", required=False)


def gtc(moon: Ppk | None = None, sun: Ppk | None = None, password: str = RIGHT) -> Pair:
    root, key = Authority.make("Root"), make_key("ecdsa-p256")
    return make_pair(
        moon={
            "local_auth": EapGtcAuth("carol", password), "remote_auth": CertificateTrust((root.certificate,)), "ppk": moon,
        },
        sun={
            "local_auth": CertificateAuth((root.issue("sun", key),), key),
            "remote_auth": EapTrust(),
            "remote_identity": None,
            "ppk": sun,
        },
        verify=by_password({"carol": RIGHT}),
    )  # fmt: skip


@pytest.mark.parametrize(("moon", "sun"), [(KEY, KEY), (OPTIONAL, OPTIONAL), (KEY, OPTIONAL), (OPTIONAL, KEY)])
def test_a_ppk_works_with_eap(moon: Ppk, sun: Ppk) -> None:
    pair = gtc(moon, sun).establish()
    for host in (pair.moon, pair.sun):
        assert host.last(IkeSaEstablished).ppk_id == b"key-1"
    pair.moon.endpoint.commands.rekey_child(pair.moon_session, pair.moon.children[0].spi_in, pair.wire.now)
    pair.wire.run(5)
    pair.check_children()  # the keys of later CHILD_SAs come from the same SK_d


@pytest.mark.parametrize(
    ("moon", "sun"),
    [(OPTIONAL, None), (None, OPTIONAL), (OPTIONAL, Ppk(b"other", b"another key", required=False))],
)
def test_without_the_same_ppk_eap_continues_if_both_allow_it(moon: Ppk | None, sun: Ppk | None) -> None:
    pair = gtc(moon, sun).establish()
    assert pair.moon.last(IkeSaEstablished).ppk_id is pair.sun.last(IkeSaEstablished).ppk_id is None


@pytest.mark.parametrize(
    ("moon", "sun"),
    [
        (KEY, None),
        (None, KEY),
        (KEY, Ppk(b"key-1", b"a different key")),
        (OPTIONAL, Ppk(b"key-1", b"a different key", required=False)),
        (KEY, Ppk(b"other", b"a long quantum-safe key", required=False)),
    ],
)
def test_another_ppk_or_none_is_refused_if_it_is_required(moon: Ppk | None, sun: Ppk | None) -> None:
    pair = gtc(moon, sun)
    pair.start()
    pair.wire.run(60)
    assert not pair.moon.all(IkeSaEstablished) + pair.sun.all(IkeSaEstablished)
    assert not pair.moon.children + pair.sun.children


def test_a_ppk_does_not_replace_the_password() -> None:
    pair = gtc(KEY, KEY, password="wrong")
    pair.start()
    pair.wire.run(60)
    assert pair.sun.last(AuthenticationFailed)
    assert not pair.sun.all(IkeSaEstablished)


# EAP-only authentication (RFC 5998) is refused, both ways


def half_way() -> tuple[Pair, IkeSa, IkeSa]:
    """IKE_SA_INIT is done; moon's IKE_AUTH never leaves. Both IKE_SAs."""
    pair = gtc()
    pair.wire.fate = lambda datagram: (0.01,) if len(pair.wire.sent) <= 2 else ()
    pair.start()
    pair.wire.run(0.1)
    moon, sun = (next(iter(host.endpoint.state.ike_sas.values())) for host in (pair.moon, pair.sun))
    return pair, moon, sun


def test_a_client_that_requests_eap_only_still_gets_our_auth() -> None:
    pair, moon, _ = half_way()
    payloads = IkeAuth().build(moon, pair.wire.now)
    assert payloads is not None
    asking = [*payloads, NotifyPayload(NotifyType.EAP_ONLY_AUTHENTICATION)]
    (request,) = moon.protect(ExchangeType.IKE_AUTH, 1, asking, response=False)
    pair.sun.endpoint.receive_datagram(bytes(4) + request, on_4500(pair), pair.wire.now)
    (answer,) = pair.sun.endpoint.datagrams_to_send(pair.wire.now)
    opened = moon.open(parse_message(answer.data[4:]))
    assert opened is not None
    found = parse_chain(*opened)
    assert [found.first(kind) is not None for kind in (AuthPayload, CertPayload, EapPayload)] == [True, True, True]


@pytest.mark.parametrize("named", [True, False])
def test_a_server_that_starts_eap_before_authentication_is_refused(named: bool) -> None:
    pair, _, sun = half_way()
    question = EapPayload(build_eap(EapPacket(EapCode.REQUEST, 1, EapType.IDENTITY)))
    name = [IdPayload(PayloadType.IDR, 2, b"sun")] if named else []
    (answer,) = sun.protect(ExchangeType.IKE_AUTH, 1, [*name, question], response=True)
    path = on_4500(pair)
    pair.moon.endpoint.receive_datagram(bytes(4) + answer, Path(path.remote, path.local), pair.wire.now)
    pair.wire.run(30)
    assert "before it has authenticated" in pair.moon.last(AuthenticationFailed).reason
    assert not pair.moon.all(IkeSaEstablished) + pair.sun.all(IkeSaEstablished)


def on_4500(pair: Pair) -> Path:
    """The path as sun sees it."""
    return Path(SocketAddress(pair.sun.address.host, 4500), SocketAddress(pair.moon.address.host, 4500))


def test_an_eap_server_without_a_key_is_an_invalid_configuration() -> None:
    with pytest.raises(ConfigurationError):
        make_pair(sun={"remote_auth": EapTrust()})
    with pytest.raises(ConfigurationError):
        make_pair(moon={"local_auth": EapGtcAuth("carol", "secret"), "remote_auth": EapTrust()})


# Compression


def test_compression_is_not_negotiated() -> None:
    """A peer that offers IPComp gets a CHILD_SA without it (RFC 7296, 2.22), since we do not answer IPCOMP_SUPPORTED."""
    pair = make_pair()
    pair.wire.fate = lambda datagram: (0.01,) if len(pair.wire.sent) <= 2 else ()
    pair.start()
    pair.wire.run(0.1)
    moon = next(iter(pair.moon.endpoint.state.ike_sas.values()))
    payloads = IkeAuth().build(moon, pair.wire.now)
    assert payloads is not None
    offered = [*payloads, NotifyPayload(IPCOMP_SUPPORTED, bytes.fromhex("123402"))]  # CPI, DEFLATE
    (request,) = moon.protect(ExchangeType.IKE_AUTH, 1, offered, response=False)
    path = Path(SocketAddress(pair.sun.address.host, 500), SocketAddress(pair.moon.address.host, 500))
    pair.sun.endpoint.receive_datagram(request, path, pair.wire.now)
    (answer,) = pair.sun.endpoint.datagrams_to_send(pair.wire.now)
    opened = moon.open(parse_message(answer.data))
    assert opened is not None
    assert parse_chain(*opened).notify(IPCOMP_SUPPORTED) is None
    pair.wire.collect()
    assert len(pair.sun.children) == 1
