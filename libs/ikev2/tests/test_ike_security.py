"""Malicious peers: unauthenticated ones, and authenticated ones that violate the protocol."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.constants import ExchangeType, HeaderFlag, NotifyType, PayloadType, Protocol
from warren_ikev2.events import (
    AddressChanged,
    AuthenticationFailed,
    ChildSaDeleted,
    ChildSaEstablished,
    DatagramDropped,
    HandshakeFailed,
    IkeSaDeleted,
    IkeSaEstablished,
    State,
)
from warren_ikev2.exchanges.ike_auth_initiator import IkeAuth
from warren_ikev2.fragments import seal
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import build_chain
from warren_ikev2.wire.payloads import (
    AuthPayload,
    DeletePayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
)
from warren_testkit.examples import examples
from warren_testkit.ikev2.pair import Pair, make_pair, oldest_sa
from warren_testkit.ikev2.proposals import parse_ike_proposals

ATTACKER = ip_address("198.51.100.66")


def half_way() -> Pair:
    """IKE_SA_INIT is done; moon's IKE_AUTH never leaves."""
    pair = make_pair()
    pair.wire.fate = lambda datagram: (0.01,) if len(pair.wire.sent) <= 2 else ()
    pair.start()
    pair.wire.run(1)
    assert oldest_sa(pair.sun).state == State.INIT_DONE
    return pair


def send(pair: Pair, exchange: int, chain: tuple[int, bytes], message_id: int, capacity: int | None = None) -> None:
    """Send arbitrary payloads from moon, with the right keys."""
    sa = oldest_sa(pair.moon)
    assert sa.protection.outbound is not None
    header = Header(sa.spi_i, sa.spi_r, exchange, HeaderFlag.INITIATOR if sa.initiator else 0, message_id)
    path = Path(SocketAddress(pair.sun.address.host, 500), SocketAddress(pair.moon.address.host, 500))
    for message in seal(sa.protection.outbound, header, *chain, capacity):
        pair.sun.endpoint.receive_datagram(message, path, pair.wire.now)
    pair.wire.collect()


def send_payloads(pair: Pair, exchange: int, payloads: Sequence[Payload], message_id: int = 1) -> None:
    send(pair, exchange, build_chain(payloads), message_id)


# Before authentication

IDENTITY = IdPayload(PayloadType.IDI, 2, b"moon")


CHILD: list[Payload] = [
    SaPayload(parse_ike_proposals("aes256gcm16-prfsha384-x25519")),
    TsPayload(PayloadType.TSI, ()),
    TsPayload(PayloadType.TSR, ()),
]


LIES: dict[str, list[Payload]] = {
    "no AUTH": [IDENTITY],
    "empty": [],
    "no identity": [AuthPayload(2, bytes(48))],
    "forged AUTH": [IDENTITY, AuthPayload(2, bytes(48)), *CHILD],
    "signature where a secret is expected": [IDENTITY, AuthPayload(14, b"\x0a" + bytes(60))],
    "unknown method": [IDENTITY, AuthPayload(201, bytes(48))],
    "two AUTHs": [IDENTITY, AuthPayload(2, bytes(48)), AuthPayload(2, bytes(48))],
    "two identities": [IDENTITY, IDENTITY, AuthPayload(2, bytes(48))],
    "another identity": [IdPayload(PayloadType.IDI, 2, b"mars"), AuthPayload(2, bytes(48))],
    "identity of an unknown type": [IdPayload(PayloadType.IDI, 77, b"moon"), AuthPayload(2, bytes(48))],
    "empty identity": [IdPayload(PayloadType.IDI, 2, b""), AuthPayload(2, bytes(48))],
    "address of 3 bytes": [IdPayload(PayloadType.IDI, 1, b"abc"), AuthPayload(2, bytes(48))],
    "success from nowhere": [IDENTITY, NotifyPayload(NotifyType.INITIAL_CONTACT)],
}


@pytest.mark.parametrize("name", LIES)
def test_a_peer_that_does_not_authenticate_is_refused(name: str) -> None:
    pair = half_way()
    send_payloads(pair, ExchangeType.IKE_AUTH, LIES[name])
    assert not pair.sun.all(IkeSaEstablished)
    assert not pair.sun.all(ChildSaEstablished)
    failures = [*pair.sun.all(AuthenticationFailed), *pair.sun.all(HandshakeFailed)]
    assert failures
    pair.wire.run(60)
    assert pair.sun.endpoint.size == 0


@pytest.mark.parametrize(
    "exchange", [ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL, ExchangeType.IKE_FOLLOWUP_KE, 77]
)
def test_only_ike_auth_is_handled_before_authentication(exchange: int) -> None:
    pair = half_way()
    for payloads in ([DeletePayload(Protocol.IKE)], [NotifyPayload(NotifyType.AUTHENTICATION_FAILED)], CHILD):
        send_payloads(pair, exchange, payloads)
    assert oldest_sa(pair.sun).state == State.INIT_DONE
    assert pair.sun.last(DatagramDropped).reason == "unexpected"


def test_half_of_the_fragments_are_not_enough() -> None:
    """AUTH in the first fragment counts only once all fragments are there."""
    pair = half_way()
    sa = oldest_sa(pair.moon)
    assert sa.protection.outbound is not None
    payloads = IkeAuth().build(sa, pair.wire.now)
    assert payloads is not None
    header = Header(sa.spi_i, sa.spi_r, ExchangeType.IKE_AUTH, HeaderFlag.INITIATOR, 1)
    messages = seal(sa.protection.outbound, header, *build_chain(payloads), 150)
    assert len(messages) > 1
    path = Path(SocketAddress(pair.sun.address.host, 500), SocketAddress(pair.moon.address.host, 500))
    for message in messages[:-1]:
        pair.sun.endpoint.receive_datagram(message, path, pair.wire.now)
    pair.wire.collect()
    assert oldest_sa(pair.sun).state == State.INIT_DONE


def test_a_half_open_ike_sa_expires() -> None:
    pair = half_way()
    pair.wire.run(31)
    assert pair.sun.endpoint.size == 0
    assert pair.sun.last(HandshakeFailed).notify is None


def test_the_responder_cannot_skip_authentication() -> None:
    """A responder that answers IKE_AUTH with a CHILD_SA but without a valid AUTH gets no CHILD_SA."""
    pair = make_pair(
        sun={"local_identity": make_pair().moon.endpoint.state.configuration.connections[0].local_identity}
    )
    pair.start()
    pair.wire.run(30)
    assert not pair.moon.all(IkeSaEstablished)
    assert not pair.moon.all(ChildSaEstablished)


# After authentication: a malicious peer

RAW_CHAINS = st.tuples(
    st.sampled_from([0, *(int(kind) for kind in PayloadType), 99]),
    st.binary(max_size=120),
)


@given(
    exchange=st.sampled_from([34, 35, 36, 37, 43, 44, 200]),
    chain=RAW_CHAINS,
    established=st.booleans(),
    side_requests=st.booleans(),
)
@examples(300, suppress_health_check=[HealthCheck.too_slow])
def test_any_authentic_bytes_are_survived(
    exchange: int, chain: tuple[int, bytes], established: bool, side_requests: bool
) -> None:
    pair = make_pair().establish() if established else half_way()
    if established and side_requests:
        pair.sun.endpoint.commands.rekey_child(pair.sun_session, pair.sun.children[0].spi_in, pair.wire.now)
    send(pair, exchange, chain, oldest_sa(pair.sun).receiving.lowest)
    pair.wire.run(5)
    if not established:
        assert not pair.sun.all(ChildSaEstablished)


PIECES: st.SearchStrategy[Payload] = st.one_of(
    st.builds(NotifyPayload, st.sampled_from([int(kind) for kind in NotifyType]), st.binary(max_size=24),
              st.sampled_from([0, 1, 3]), st.sampled_from([b"", b"\x01\x02\x03\x04", bytes(8)])),
    st.builds(DeletePayload, st.sampled_from([1, 2, 3]), st.lists(st.binary(min_size=4, max_size=4), max_size=3).map(tuple)),
    st.builds(NoncePayload, st.binary(min_size=16, max_size=40)),
    st.builds(KePayload, st.sampled_from([0, 14, 19, 31, 36, 99]),
              st.sampled_from([bytes(32), bytes(256), b"\x09" + bytes(31), b"x"])),
    st.sampled_from(CHILD),
    st.builds(AuthPayload, st.integers(0, 15), st.binary(max_size=64)),
)  # fmt: skip


@given(exchanges=st.lists(st.tuples(st.sampled_from([35, 36, 37, 43, 44]), st.lists(PIECES, max_size=6)), max_size=5))
@examples(300, suppress_health_check=[HealthCheck.too_slow])
def test_any_authentic_payloads_are_survived(exchanges: list[tuple[int, list[Payload]]]) -> None:
    pair = make_pair().establish()
    for exchange, payloads in exchanges:
        if not pair.sun.endpoint.size:
            return
        send_payloads(pair, exchange, payloads, oldest_sa(pair.sun).receiving.lowest)
    pair.wire.run(5)


def test_malformed_but_authentic_ends_the_ike_sa() -> None:
    """RFC 7296, 2.21.3."""
    pair = make_pair().establish()
    send(
        pair,
        ExchangeType.INFORMATIONAL,
        (PayloadType.DELETE, b"\0\0\0\x05\x03"),
        oldest_sa(pair.sun).receiving.lowest,
    )
    assert pair.sun.last(IkeSaDeleted)


def test_a_critical_unknown_payload_is_refused_and_nothing_else_happens() -> None:
    pair = make_pair().establish()
    send(pair, ExchangeType.INFORMATIONAL, (200, b"\0\x80\0\x04"), oldest_sa(pair.sun).receiving.lowest)
    assert not pair.sun.all(IkeSaDeleted)


@pytest.mark.parametrize("spi", [b"", b"\x01", bytes(4), bytes(8), b"\xff" * 4])
def test_deleting_what_does_not_exist_is_harmless(spi: bytes) -> None:
    pair = make_pair().establish()
    payload = DeletePayload(Protocol.ESP, (spi,) if spi else ())
    send_payloads(pair, ExchangeType.INFORMATIONAL, [payload], oldest_sa(pair.sun).receiving.lowest)
    assert not pair.sun.all(ChildSaDeleted)


@pytest.mark.parametrize("offset", [-1, 1, 5, 2**31])
def test_message_ids_outside_of_the_window_are_dropped(offset: int) -> None:
    pair = make_pair().establish()
    expected = oldest_sa(pair.sun).receiving.lowest
    sent = len(pair.wire.sent)
    for _ in range(3):
        send_payloads(pair, ExchangeType.INFORMATIONAL, [DeletePayload(Protocol.IKE)], expected + offset)
    assert not pair.sun.all(IkeSaDeleted)
    assert len(pair.wire.sent) - sent == (3 if offset == -1 else 0)  # the last response, repeated


@pytest.mark.parametrize("sender", ["moon", "sun"])
def test_only_the_initiator_moves_an_ike_sa(sender: str) -> None:
    """RFC 4555, 3.5; the message is authentic and comes from somewhere else."""
    pair = make_pair(sun={"return_routability": False}).establish()
    own, receiver = oldest_sa(getattr(pair, sender)), pair.sun if sender == "moon" else pair.moon
    update = [NotifyPayload(NotifyType.UPDATE_SA_ADDRESSES)]
    (data,) = own.protect(ExchangeType.INFORMATIONAL, own.sending.next_id, update, response=False)
    path = Path(SocketAddress(receiver.address.host, 4500), SocketAddress(ATTACKER, 4500))
    receiver.endpoint.receive_datagram(bytes(4) + data, path, pair.wire.now)
    pair.wire.collect()
    assert bool(receiver.all(AddressChanged)) == (sender == "moon")
