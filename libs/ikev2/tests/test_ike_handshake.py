"""IKE_SA_INIT and IKE_AUTH between two engines."""

from dataclasses import replace
from typing import Any

import pytest

from warren_ikev2.constants import Encr, NotifyType
from warren_ikev2.credentials import PskAuth
from warren_ikev2.events import AuthenticationFailed, ChildSaFailed, HandshakeFailed, IkeSaDeleted, IkeSaEstablished
from warren_ikev2.exchanges.negotiation import confirm
from warren_ikev2.identity import Identity
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.suites import Proposal
from warren_testkit.ikev2.pair import MOON_NET, SUN_NET, make_child, make_pair
from warren_testkit.ikev2.proposals import parse_ike_proposals

CIPHERS = [
    "aes256gcm16-prfsha384",
    "chacha20poly1305-prfsha256",
    "aes256-sha256",
    "aes128-sha512",
    "aes192gcm16-prfsha512",
]
GROUPS = [
    *("x25519", "x448", "ecp256", "ecp384", "ecp521", "ecp256bp", "ecp384bp", "ecp512bp"),
    *("modp2048", "modp3072", "modp4096"),
]


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("group", GROUPS)
def test_every_cipher_and_group(cipher: str, group: str) -> None:
    proposals = parse_ike_proposals(f"{cipher}-{group}")
    pair = make_pair(moon={"ike_proposals": proposals}, sun={"ike_proposals": proposals}).establish()
    assert group in str(pair.moon.last(IkeSaEstablished).suite)
    assert len(pair.wire.sent) == 4


def test_another_group_is_retried() -> None:
    pair = make_pair(
        moon={"ike_proposals": parse_ike_proposals("aes256gcm16-prfsha384-x25519-ecp256")},
        sun={"ike_proposals": parse_ike_proposals("aes256gcm16-prfsha384-ecp256")},
    ).establish()
    assert len(pair.wire.sent) == 6


def stating_the_length(proposals: tuple[Proposal, ...]) -> tuple[Proposal, ...]:
    """As some gateways write ChaCha20, against RFC 7634, 4."""
    return tuple(
        replace(
            it, transforms=tuple(replace(t, key_length=256) if t.id == Encr.CHACHA20_POLY1305 else t for t in it.transforms)
        )
        for it in proposals
    )  # fmt: skip


@pytest.mark.parametrize("quirky", ["moon", "sun"])
def test_a_stated_key_length_of_chacha20_is_tolerated(quirky: str) -> None:
    proposals = parse_ike_proposals("chacha20poly1305-prfsha256-x25519")
    stated = {"ike_proposals": stating_the_length(proposals)}
    plain = {"ike_proposals": proposals}
    moon, sun = (stated, plain) if quirky == "moon" else (plain, stated)
    pair = make_pair(moon=moon, sun=sun).establish()
    assert str(pair.moon.last(IkeSaEstablished).suite) == "chacha20poly1305-prfsha256-x25519"
    assert pair.moon.last(IkeSaEstablished).suite == pair.sun.last(IkeSaEstablished).suite


def test_a_responder_that_adds_the_key_length_is_believed() -> None:
    offered = parse_ike_proposals("chacha20poly1305-prfsha256-x25519")
    assert confirm(stating_the_length(offered), offered).transforms[0].key_length == 256


def test_no_common_algorithms() -> None:
    pair = make_pair(sun={"ike_proposals": parse_ike_proposals("chacha20poly1305-prfsha256-x25519")})
    pair.wire.initiate(pair.moon, pair.sun, "gw")
    pair.wire.run(10)
    assert pair.moon.last(HandshakeFailed).notify == NotifyType.NO_PROPOSAL_CHOSEN
    assert pair.sun.last(HandshakeFailed).notify == NotifyType.NO_PROPOSAL_CHOSEN
    assert pair.moon.endpoint.size == pair.sun.endpoint.size == 0


def test_wrong_secret() -> None:
    pair = make_pair(moon={"local_auth": PskAuth(b"wrong")})
    pair.wire.initiate(pair.moon, pair.sun, "gw")
    pair.wire.run(60)
    assert pair.moon.last(AuthenticationFailed).by_peer
    assert not pair.sun.last(AuthenticationFailed).by_peer
    assert pair.sun.last(AuthenticationFailed).claimed_identity == "moon"
    assert not pair.moon.children
    assert not pair.sun.children
    assert pair.moon.endpoint.size == pair.sun.endpoint.size == 0


def test_wrong_secret_of_the_responder() -> None:
    """The responder has authenticated us before we detect its wrong secret; it is notified, and deletes its CHILD_SA."""
    pair = make_pair(sun={"local_auth": PskAuth(b"wrong")})
    pair.wire.initiate(pair.moon, pair.sun, "gw")
    pair.wire.run(60)
    assert not pair.moon.last(AuthenticationFailed).by_peer
    assert pair.sun.last(AuthenticationFailed).by_peer
    assert not pair.moon.all(IkeSaEstablished)
    assert pair.sun.last(IkeSaDeleted)
    assert not pair.sun.children
    assert pair.moon.endpoint.size == pair.sun.endpoint.size == 0


@pytest.mark.parametrize("side", ["moon", "sun"])
def test_unexpected_identity(side: str) -> None:
    changes: dict[str, Any] = {side: {"local_identity": Identity.parse("mars")}}
    pair = make_pair(**changes)
    pair.wire.initiate(pair.moon, pair.sun, "gw")
    pair.wire.run(60)
    assert pair.moon.all(AuthenticationFailed)
    assert pair.sun.all(AuthenticationFailed)
    assert not pair.moon.children
    assert not pair.sun.children
    assert pair.moon.endpoint.size == pair.sun.endpoint.size == 0


def test_selectors_are_narrowed() -> None:
    wide = TrafficSelector.parse("10.0.0.0/8")
    pair = make_pair(moon={"children": (make_child(wide, wide),)}).establish()
    assert pair.moon.children[0].local_ts == (MOON_NET,)
    assert pair.moon.children[0].remote_ts == (SUN_NET,)


def test_unacceptable_selectors_leave_the_ike_sa() -> None:
    other = TrafficSelector.parse("172.16.0.0/12")
    pair = make_pair(moon={"children": (make_child(other, other),)}).establish()
    assert pair.moon.last(ChildSaFailed).notify == NotifyType.TS_UNACCEPTABLE
    assert pair.sun.last(ChildSaFailed).notify == NotifyType.TS_UNACCEPTABLE
    assert not pair.moon.children


def test_childless() -> None:
    pair = make_pair(moon={"children": ()}).establish()
    assert not pair.moon.children
    assert not pair.moon.all(ChildSaFailed)


def test_no_answer() -> None:
    pair = make_pair()
    pair.wire.fate = lambda datagram: ()
    pair.wire.initiate(pair.moon, pair.sun, "gw")
    pair.wire.run(200)
    assert pair.moon.last(HandshakeFailed).notify is None
    assert len(pair.wire.sent) == 6
    assert len({datagram.data for datagram in pair.wire.sent}) == 1
    assert pair.moon.endpoint.size == 0


def test_keys_and_secrets_stay_out_of_events() -> None:
    pair = make_pair().establish()
    text = repr(pair.moon.events) + repr(pair.sun.events)
    assert "correct horse" not in text
    for sa in pair.moon.children:
        assert repr(sa.keys_in.encryption) not in text
