"""The checks of a probe's response: it must match the request, whatever sends it (RFC 7296, 2.7 and 3.3.6)."""

import os
from collections.abc import Sequence
from dataclasses import replace

import pytest

from warren_ikev2.addresses import Path
from warren_ikev2.algorithms import Transform
from warren_ikev2.constants import ExchangeType, HeaderFlag, KeGroup, NotifyType, Protocol, TransformType
from warren_ikev2.crypto import groups
from warren_ikev2.exchanges.redirect import build_gateway
from warren_ikev2.probe import MODERN, ProbeRequest
from warren_ikev2.probe_answer import Answer, ProbeVerdict
from warren_ikev2.suites import Proposal
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import build_message
from warren_ikev2.wire.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload
from warren_testkit.ikev2.pair import address, make_connection, make_host
from warren_testkit.ikev2.proposals import parse_ike_proposals

PATH = Path(address("192.0.2.1"), address("192.0.2.2"))
GCM = parse_ike_proposals("aes256gcm16-aes128gcm16-prfsha384-x25519-ecp256")
DES = Proposal(Protocol.IKE, (Transform(TransformType.ENCR, 2), Transform(TransformType.KE, 1)))


def chosen(*keywords: str, number: int = 1) -> Proposal:
    return replace(parse_ike_proposals(*keywords)[0], number=number)


def ask(proposals: Sequence[Proposal] = GCM, group: KeGroup = KeGroup.X25519) -> ProbeRequest:
    return ProbeRequest.complete(proposals, group, os.urandom)


def answer(question: ProbeRequest, *payloads: Payload, spi_r: bytes = b"r" * 8, version: int = 0x20) -> Answer:
    header = Header(question.spi, spi_r, ExchangeType.IKE_SA_INIT, HeaderFlag.RESPONSE, 0)
    data = bytearray(build_message(header, payloads))
    data[17] = version
    found = question.read(bytes(data), PATH)
    assert found is not None
    return found


def choice(question: ProbeRequest, proposal: Proposal, group: int = 31, public: bytes | None = None) -> Answer:
    own = groups.start(KeGroup.X25519).public if public is None else public
    return answer(question, SaPayload((proposal,)), KePayload(group, own), NoncePayload(bytes(32)))


def test_the_engine_s_own_responses_are_accepted() -> None:
    for proposals, verdict in ((MODERN.all(), ProbeVerdict.ACCEPTED), (MODERN.single("aes128"), ProbeVerdict.REFUSED)):
        host = make_host(
            "sun", "192.0.2.2", make_connection("sun", None)
        )  # of one, the second question would meet a cookie
        question = ProbeRequest.complete(proposals, KeGroup.X25519, os.urandom)
        host.endpoint.receive_datagram(question.build(PATH, os.urandom), Path(PATH.remote, PATH.local), 0.0)
        (datagram,) = host.endpoint.datagrams_to_send(0.0)
        found = question.read(datagram.data, PATH)
        assert found is not None
        assert found.verdict is verdict
        assert str(found.proposal or "aes256gcm16-prfsha384-x25519") == "aes256gcm16-prfsha384-x25519"
    stateless = ProbeRequest.stateless(MODERN.single("x25519"), os.urandom)
    host.endpoint.receive_datagram(stateless.build(PATH, os.urandom), Path(PATH.remote, PATH.local), 0.0)
    found = stateless.read(host.endpoint.datagrams_to_send(0.0)[0].data, PATH)
    assert found is not None
    assert (found.verdict, found.group) == (ProbeVerdict.WANTS_GROUP, KeGroup.X25519)


@pytest.mark.parametrize(
    "proposal",
    [
        DES,
        chosen("aes256gcm16-prfsha384-x25519", number=2),
        chosen("aes192gcm16-prfsha384-x25519"),  # another key length
        chosen("aes256gcm16-aes128gcm16-prfsha384-x25519"),  # two of a type
        chosen("aes256gcm16-prfsha384-ecp256"),  # offered, but the KE payload is X25519's
        replace(chosen("aes256gcm16-prfsha384-x25519"), protocol=Protocol.ESP),
        Proposal(Protocol.IKE, (Transform(TransformType.ENCR, 20, 256), Transform(TransformType.KE, 31))),  # no PRF
    ],
)
def test_a_choice_that_was_not_offered_is_invalid(proposal: Proposal) -> None:
    found = choice(ask(), proposal)
    assert found.verdict is ProbeVerdict.INVALID_CHOICE
    assert found.proposal is None
    assert found.reason


def test_a_stateless_question_cannot_be_accepted() -> None:
    """Its group is in no proposal, so a valid peer cannot accept it."""
    question = ProbeRequest.stateless(MODERN.single("x25519"), os.urandom)
    for proposal in (DES, chosen("aes256gcm16-prfsha384-x25519")):
        assert choice(question, proposal).verdict is ProbeVerdict.INVALID_CHOICE


@pytest.mark.parametrize("group", [1, 65535, int(KeGroup.X448), int(KeGroup.X25519)])
def test_a_requested_group_must_be_offered_and_different(group: int) -> None:
    found = answer(ask(), NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, group.to_bytes(2, "big")))
    assert found.verdict is ProbeVerdict.INVALID_CHOICE
    assert f"group {group}" in found.reason


def test_offered_algorithms_and_groups_are_accepted() -> None:
    assert choice(ask(), chosen("aes128gcm16-prfsha384-x25519")).verdict is ProbeVerdict.ACCEPTED
    found = answer(ask(), NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, b"\0\x13"))
    assert (found.verdict, found.group) == (ProbeVerdict.WANTS_GROUP, KeGroup.ECP_256)


@pytest.mark.parametrize("public", [b"", bytes(32), bytes(31)])
def test_an_invalid_key_is_not_an_acceptance(public: bytes) -> None:
    assert choice(ask(), chosen("aes256gcm16-prfsha384-x25519"), public=public).verdict is ProbeVerdict.MALFORMED


def test_an_answer_without_spi_or_payloads_is_malformed() -> None:
    question = ask()
    own = SaPayload((chosen("aes256gcm16-prfsha384-x25519"),))
    key, nonce = KePayload(31, groups.start(KeGroup.X25519).public), NoncePayload(bytes(32))
    assert answer(question, own, nonce).verdict is ProbeVerdict.MALFORMED
    assert answer(question, own, key).verdict is ProbeVerdict.MALFORMED
    assert answer(question).verdict is ProbeVerdict.MALFORMED
    assert answer(question, NotifyPayload(NotifyType.COOKIE, bytes(65))).verdict is ProbeVerdict.MALFORMED
    assert answer(question, own, key, nonce, spi_r=bytes(8)).verdict is ProbeVerdict.INVALID_CHOICE


def test_a_redirection_names_its_gateway_if_it_knows_our_nonce() -> None:
    question = ask()
    reported = answer(question, NotifyPayload(NotifyType.REDIRECT, build_gateway("vpn2.example.com", question.nonce)))
    assert (reported.verdict, reported.gateway) == (ProbeVerdict.REDIRECTED, "vpn2.example.com")
    forged = answer(question, NotifyPayload(NotifyType.REDIRECT, build_gateway("vpn2.example.com", bytes(32))))
    assert forged.verdict is ProbeVerdict.MALFORMED


def test_other_versions_and_other_questions_are_distinguished() -> None:
    question = ask()
    reported = answer(question, NotifyPayload(NotifyType.INVALID_MAJOR_VERSION), version=0x10)
    assert (reported.verdict, reported.reason) == (ProbeVerdict.OTHER_VERSION, "the peer responds in version 1 of IKE")
    header = Header(b"other123", bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.RESPONSE, 0)
    assert question.read(build_message(header, [NotifyPayload(NotifyType.NO_PROPOSAL_CHOSEN)]), PATH) is None
