"""Logins by EAP as responder: the negotiation of the method, MSCHAPv2 (RFC 2759), and verdicts that take their time."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.aio.logs import fields_of
from warren_ikev2.auth.eap import EapCode, EapPacket, EapType
from warren_ikev2.auth.eap_server import EapAuthenticator
from warren_ikev2.auth.login import GtcAttempt, LoginAttempt, LoginVerdict, Mschapv2Attempt
from warren_ikev2.auth.mschapv2 import MschapV2Peer, password_hash
from warren_ikev2.configuration import Limits
from warren_ikev2.constants import NotifyType
from warren_ikev2.credentials import (
    CertificateAuth,
    CertificateTrust,
    EapGtcAuth,
    EapMschapv2Auth,
    EapTrust,
    RawKeyAuth,
    RawKeyTrust,
)
from warren_ikev2.errors import CommandError
from warren_ikev2.events import (
    AuthenticationFailed,
    DatagramDropped,
    HandshakeFailed,
    IkeSaEstablished,
    LoginRequested,
    SessionId,
)
from warren_ikev2.identity import Identity
from warren_testkit.ikev2.keys import Authority, make_key
from warren_testkit.ikev2.logins import Verify, by_password
from warren_testkit.ikev2.pair import Pair, counting_bytes, make_pair

PASSWORD = "correct horse"
PATH = Path(SocketAddress(ip_address("192.0.2.2"), 500), SocketAddress(ip_address("192.0.2.1"), 500))
ROOT, SUN_KEY = Authority.make("Root"), make_key("ed25519")
SUN_AUTH = CertificateAuth((ROOT.issue("sun", SUN_KEY),), SUN_KEY)


def login(
    auth: EapGtcAuth | EapMschapv2Auth, verify: Verify | None, mschapv2: bool = True, limits: Limits | None = None
) -> Pair:
    return make_pair(
        moon={"local_auth": auth, "remote_auth": CertificateTrust((ROOT.certificate,))},
        sun={"local_auth": SUN_AUTH, "remote_auth": EapTrust(mschapv2=mschapv2), "remote_identity": None},
        limits=limits,
        verify=verify,
    )


# The method


@pytest.mark.parametrize("user", ["carol", "OFFICE\\carol"])
def test_a_client_that_declines_gtc_is_offered_mschapv2(user: str) -> None:
    """The MSK is the secret of both AUTH payloads (RFC 7296, 2.16), so both sides have derived the same."""
    pair = login(EapMschapv2Auth(user, PASSWORD), by_password({"carol": PASSWORD}, {"carol"})).establish()
    established = pair.sun.last(IkeSaEstablished)
    assert (established.remote_auth, established.eap_identity) == ("eap-mschapv2", "carol")
    assert pair.moon.last(IkeSaEstablished).local_auth == "eap-mschapv2"
    assert PASSWORD not in repr(pair.sun.events)


@pytest.mark.parametrize(
    ("auth", "with_nt_hash", "mschapv2"),
    [
        (EapMschapv2Auth("carol", "wrong"), {"carol"}, True),
        (EapMschapv2Auth("eve", PASSWORD), {"carol"}, True),
        (EapMschapv2Auth("carol", PASSWORD), set[str](), True),  # no NT hash is stored
        (EapMschapv2Auth("carol", PASSWORD), {"carol"}, False),
        (EapGtcAuth("carol", "wrong"), {"carol"}, True),
        (EapGtcAuth("eve", PASSWORD), {"carol"}, True),
    ],
)
def test_a_refused_login_ends_on_both_sides(
    auth: EapGtcAuth | EapMschapv2Auth, with_nt_hash: set[str], mschapv2: bool
) -> None:
    pair = login(auth, by_password({"carol": PASSWORD}, with_nt_hash), mschapv2)
    pair.start()
    pair.wire.run(60)
    assert pair.sun.all(AuthenticationFailed)
    assert pair.moon.all(AuthenticationFailed)
    assert len(pair.sun.all(AuthenticationFailed)) == 1
    assert not pair.sun.all(IkeSaEstablished) + pair.moon.all(IkeSaEstablished)
    assert pair.sun.endpoint.size == pair.moon.endpoint.size == 0


def sizes(pair: Pair) -> list[int]:
    pair.start()
    pair.wire.run(60)
    return [len(datagram.data) for datagram in pair.wire.sent]


@pytest.mark.parametrize("kind", [EapGtcAuth, EapMschapv2Auth])
def test_the_messages_do_not_show_whether_a_user_exists(kind: type[EapGtcAuth] | type[EapMschapv2Auth]) -> None:
    verify = by_password({"carol": PASSWORD}, {"carol"})
    assert sizes(login(kind("carol", "wrong"), verify)) == sizes(login(kind("nobod", "wrong"), verify))


def conversation(mschapv2: bool = True) -> tuple[EapAuthenticator, int]:
    """A server that has asked for the password, and the identifier of its request."""
    server = EapAuthenticator(EapTrust(mschapv2=mschapv2), counting_bytes("eap"))
    first = server.start()
    asked = server.handle(EapPacket(EapCode.RESPONSE, first.identifier, EapType.IDENTITY, b"carol"))
    assert asked is not None
    assert asked.type == EapType.GTC
    return server, asked.identifier


@pytest.mark.parametrize("offer", [b"", b"\x00", b"\x04", b"\x15\x0d"])
def test_a_nak_without_a_method_of_ours_fails(offer: bytes) -> None:
    server, identifier = conversation()
    answer = server.handle(EapPacket(EapCode.RESPONSE, identifier, EapType.NAK, offer))
    assert answer is not None
    assert answer.code == EapCode.FAILURE
    assert server.failed


def test_a_second_nak_fails() -> None:
    server, identifier = conversation()
    challenge = server.handle(EapPacket(EapCode.RESPONSE, identifier, EapType.NAK, b"\x1a"))
    assert challenge is not None
    assert challenge.type == EapType.MSCHAPV2
    answer = server.handle(EapPacket(EapCode.RESPONSE, challenge.identifier, EapType.NAK, b"\x06"))
    assert answer is not None
    assert answer.code == EapCode.FAILURE


def mschapv2_response(name: str = "carol") -> tuple[EapAuthenticator, EapPacket]:
    server, identifier = conversation()
    challenge = server.handle(EapPacket(EapCode.RESPONSE, identifier, EapType.NAK, b"\x1a"))
    assert challenge is not None
    data = MschapV2Peer(name, PASSWORD, bytes(16)).handle(challenge.data)
    return server, EapPacket(EapCode.RESPONSE, challenge.identifier, EapType.MSCHAPV2, data)


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 30, 53])
def test_a_truncated_mschapv2_response_fails(cut: int) -> None:
    server, response = mschapv2_response()
    answer = server.handle(replace(response, data=response.data[:cut]))
    assert answer is not None
    assert answer.code == EapCode.FAILURE
    assert server.attempt is None


def test_the_name_of_an_mschapv2_response_must_be_the_identity() -> None:
    server, response = mschapv2_response("mallory")
    answer = server.handle(response)
    assert answer is not None
    assert answer.code == EapCode.FAILURE
    assert server.attempt is None


def test_an_mschapv2_login_is_not_accepted_without_its_proof() -> None:
    server, response = mschapv2_response()
    assert server.handle(response) is None
    answer = server.conclude(LoginVerdict(True))
    assert answer.type == EapType.MSCHAPV2
    assert not server.succeeded
    end = server.handle(EapPacket(EapCode.RESPONSE, answer.identifier, EapType.MSCHAPV2, b"\x03"))
    assert end is not None
    assert end.code == EapCode.FAILURE


def test_an_mschapv2_attempt_is_verified_by_the_nt_hash() -> None:
    server, response = mschapv2_response()
    server.handle(response)
    assert isinstance(server.attempt, Mschapv2Attempt)
    assert server.attempt.verify(password_hash("another")) is None
    proof = server.attempt.verify(password_hash(PASSWORD))
    assert proof is not None
    assert len(proof.msk) == 64
    assert proof.msk.hex() not in repr(LoginVerdict(True, proof=proof)) + repr(proof)


PACKETS = st.builds(
    EapPacket,
    st.sampled_from((*EapCode, 0, 255)),
    st.integers(0, 255),
    st.sampled_from((*EapType, None, 0, 254)),
    st.binary(max_size=80),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PACKETS, st.booleans()), max_size=8))
def test_no_sequence_of_packets_raises_or_succeeds_without_a_verdict(packets: list[tuple[EapPacket, bool]]) -> None:
    """`True`: the packet has the identifier that the server expects."""
    server = EapAuthenticator(EapTrust(mschapv2=True), counting_bytes("eap"))
    expected = server.start().identifier
    for packet, in_order in packets:
        answer = server.handle(replace(packet, identifier=expected) if in_order else packet)
        if answer is None:  # a verdict is awaited: it refuses, or accepts without the proof that only MSCHAPv2 needs
            answer = server.conclude(LoginVerdict(isinstance(server.attempt, Mschapv2Attempt)))
        expected = answer.identifier
        assert not server.succeeded


def test_an_attempt_is_not_logged() -> None:
    event = LoginRequested(SessionId(1), "c", PATH, "moon", "carol", "eap-gtc", GtcAttempt("carol", PASSWORD))
    assert set(fields_of(event)) == {"session", "connection", "path", "claimed_identity", "user", "method"}


# Verdicts that take their time


def undecided(attempt: LoginAttempt) -> LoginVerdict | None:
    return None


@pytest.mark.parametrize("accepted", [True, False])
def test_repeated_requests_have_no_response_until_the_verdict(accepted: bool) -> None:
    pair = login(EapGtcAuth("carol", PASSWORD), undecided)
    pair.start()
    pair.wire.run(8)  # the client repeats its request after 4 s, and again after 7.2 s
    sent = sum(datagram.path.local.host == pair.sun.address.host for datagram in pair.wire.sent)
    assert [event.reason for event in pair.sun.all(DatagramDropped)] == ["pending"]
    requested = pair.sun.last(LoginRequested)
    assert (requested.user, requested.method, requested.claimed_identity) == ("carol", "eap-gtc", "moon")
    assert isinstance(requested.attempt, GtcAttempt)
    assert PASSWORD not in repr(pair.sun.events)
    pair.wire.fate = lambda datagram: ()  # the response is lost: the client repeats, and the stored one is sent again
    pair.sun.endpoint.commands.answer_login(requested.session, LoginVerdict(accepted, "the reason"), pair.wire.now)
    pair.wire.collect()
    first = pair.wire.sent[-1]
    pair.wire.fate = lambda datagram: (0.01,)
    pair.wire.run(20)
    again = [datagram for datagram in pair.wire.sent if datagram.path.local.host == pair.sun.address.host][sent + 1]
    assert again.data == first.data
    assert len(pair.sun.all(LoginRequested)) == 1
    if accepted:
        pair.check_children()
    else:
        assert pair.sun.last(AuthenticationFailed).reason == "the reason"
        assert pair.moon.all(AuthenticationFailed)


def test_a_login_without_a_verdict_in_time_is_refused() -> None:
    pair = login(EapGtcAuth("carol", PASSWORD), undecided, limits=Limits(login_seconds=5.0))
    pair.start()
    pair.wire.run(4)
    assert not pair.sun.all(AuthenticationFailed)
    pair.wire.run(4)
    assert "in time" in pair.sun.last(AuthenticationFailed).reason
    session = pair.sun.last(LoginRequested).session
    with pytest.raises(CommandError):
        pair.sun.endpoint.commands.answer_login(session, LoginVerdict(True), pair.wire.now)
    pair.wire.run(60)
    assert not pair.sun.all(IkeSaEstablished)
    assert pair.sun.endpoint.size == 0


@pytest.mark.parametrize("auth", [EapGtcAuth("carol", PASSWORD), EapMschapv2Auth("carol", PASSWORD)])
def test_a_login_that_is_not_decided_on_is_no_refusal_of_the_password(auth: EapGtcAuth | EapMschapv2Auth) -> None:
    verdict = LoginVerdict(False, "too many logins at once", undecided=True)
    pair = login(auth, lambda attempt: verdict)
    pair.start()
    pair.wire.run(5)
    assert pair.sun.last(AuthenticationFailed).reason == "too many logins at once"
    assert pair.moon.last(HandshakeFailed).notify == NotifyType.TEMPORARY_FAILURE
    assert not pair.moon.all(AuthenticationFailed)
    pair.wire.run(60)
    assert not pair.sun.all(IkeSaEstablished)
    assert pair.sun.endpoint.size == pair.moon.endpoint.size == 0


def test_a_login_that_waits_is_part_of_its_half_open_ike_sa() -> None:
    """As many as those of one address, and none outlives its time limit, whatever the limit of the verdict is."""
    limits = Limits(half_open_per_address=3, login_seconds=1000.0)
    pair = login(EapGtcAuth("carol", PASSWORD), undecided, limits=limits)
    for _ in range(6):
        pair.start()
        pair.wire.run(0.5)
    assert len(pair.sun.all(LoginRequested)) == pair.sun.endpoint.size == 3
    pair.wire.run(Limits().half_open_seconds)
    assert pair.sun.endpoint.size == 0
    with pytest.raises(CommandError):
        pair.sun.endpoint.commands.answer_login(
            pair.sun.all(LoginRequested)[0].session, LoginVerdict(True), pair.wire.now
        )


# Keys and passwords at one server


@pytest.mark.parametrize("by_key", [True, False])
def test_the_kind_of_authentication_chooses_the_connection(by_key: bool) -> None:
    """A user may have a key and a password: the absence of AUTH requests EAP."""
    key = make_key("ed25519")
    auth = RawKeyAuth(key) if by_key else EapGtcAuth("moon", PASSWORD)
    pair = make_pair(
        moon={"local_auth": auth, "remote_auth": CertificateTrust((ROOT.certificate,))},
        sun={"local_auth": SUN_AUTH, "remote_auth": EapTrust(), "remote_identity": None},
        verify=by_password({"moon": PASSWORD}),
    )
    password = pair.sun.endpoint.state.configuration.connections[0]
    own_key = replace(
        password, name="key", remote_auth=RawKeyTrust((key.public_key(),)), remote_identity=Identity.parse("moon")
    )
    pair.sun.endpoint.set_connections((own_key, password))
    pair.establish()
    assert pair.sun.last(IkeSaEstablished).connection == ("key" if by_key else "gw")
