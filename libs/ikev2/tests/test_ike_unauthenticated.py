"""Attacks without keys: forged hints and refusals, floods, and arbitrary datagrams."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.configuration import Limits
from warren_ikev2.constants import ExchangeType, HeaderFlag, NotifyType, Protocol
from warren_ikev2.events import AddressChanged, HintReceived, IkeSaDeleted, IkeSaEstablished
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import build_message, parse_message
from warren_ikev2.wire.payloads import DeletePayload, KePayload, NoncePayload, NotifyPayload, Payload, SaPayload
from warren_testkit.examples import examples
from warren_testkit.ikev2.pair import Pair, make_pair, oldest_sa
from warren_testkit.ikev2.proposals import parse_ike_proposals

ATTACKER = ip_address("198.51.100.66")


def unauthenticated_message(pair: Pair, payloads: Sequence[Payload], flags: int, message_id: int = 0) -> bytes:
    sa = oldest_sa(pair.moon)
    return build_message(Header(sa.spi_i, sa.spi_r, ExchangeType.INFORMATIONAL, flags, message_id), payloads)


@pytest.mark.parametrize(
    "notify", [NotifyType.INVALID_IKE_SPI, NotifyType.INVALID_SPI, NotifyType.AUTHENTICATION_FAILED]
)
def test_unprotected_errors_are_hints_only(notify: NotifyType) -> None:
    pair = make_pair().establish()
    path = Path(pair.moon.last(IkeSaEstablished).path.local, SocketAddress(ATTACKER, 4500))
    pair.wire.run(20)
    sent = len(pair.wire.sent)
    for _ in range(5):
        data = unauthenticated_message(pair, [NotifyPayload(notify)], HeaderFlag.RESPONSE)
        pair.moon.endpoint.receive_datagram(bytes(4) + data, path, pair.wire.now)
    pair.wire.run(5)
    assert pair.moon.all(HintReceived)
    assert not pair.moon.all(IkeSaDeleted)
    assert not pair.moon.all(AddressChanged)
    assert len(pair.wire.sent) - sent == 2  # one liveness check and its answer


def test_an_unprotected_deletion_is_dropped() -> None:
    pair = make_pair().establish()
    path = pair.moon.last(IkeSaEstablished).path
    data = unauthenticated_message(pair, [DeletePayload(Protocol.IKE)], 0)
    pair.moon.endpoint.receive_datagram(bytes(4) + data, path, pair.wire.now)
    pair.wire.run(1)
    assert not pair.moon.all(IkeSaDeleted)


@pytest.mark.parametrize(("version", "answers"), [(0x10, 0), (0x00, 0), (0x30, 1), (0xF0, 1)])
@pytest.mark.parametrize("exchange", [2, ExchangeType.IKE_SA_INIT, ExchangeType.INFORMATIONAL])
def test_other_versions_get_no_answer_or_the_version_that_is_spoken(version: int, answers: int, exchange: int) -> None:
    """RFC 7296, 2.5 and 1.5: an older version gets none; the answer to a newer one repeats SPIs, message id and exchange."""
    pair = make_pair()
    path = Path(pair.sun.address, SocketAddress(ATTACKER, 500))
    data = build_message(Header(b"a" * 8, bytes(8), exchange, HeaderFlag.INITIATOR, 7, version=version), ())
    pair.sun.endpoint.receive_datagram(data, path, pair.wire.now)
    pair.wire.collect()
    sent = [parse_message(datagram.data) for datagram in pair.wire.sent]
    assert len(sent) == answers
    for message in sent:
        header = message.header
        assert (header.spi_i, header.exchange, header.message_id, header.version) == (b"a" * 8, exchange, 7, 0x20)
        assert header.is_response
        assert message.payloads.errors()[0].notify == NotifyType.INVALID_MAJOR_VERSION


def test_invalid_ike_spi_is_sent_a_few_times_a_second() -> None:
    pair = make_pair()
    path = Path(pair.sun.address, SocketAddress(ATTACKER, 500))
    data = build_message(Header(b"a" * 8, b"b" * 8, ExchangeType.INFORMATIONAL, HeaderFlag.INITIATOR, 3), ())
    for _ in range(50):
        pair.sun.endpoint.receive_datagram(data, path, pair.wire.now)
    pair.wire.collect()
    assert 1 <= len(pair.wire.sent) <= 10


def test_a_forged_refusal_of_ike_sa_init_does_not_end_it() -> None:
    """A valid response is still accepted (RFC 7296, 2.21.1)."""
    pair = make_pair()
    pair.start()
    sa = oldest_sa(pair.moon)
    header = Header(sa.spi_i, bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.RESPONSE, 0)
    for notify in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.INVALID_SYNTAX, NotifyType.INVALID_KE_PAYLOAD):
        data = build_message(header, [NotifyPayload(notify, b"\0\x63")])
        path = Path(pair.moon.address, pair.sun.address)
        pair.moon.endpoint.receive_datagram(data, path, pair.wire.now)
    pair.wire.run(5)
    assert pair.moon.all(HintReceived)
    pair.check_children()
    assert pair.moon.children


def test_endless_cookies_end_the_attempt() -> None:
    pair = make_pair()
    pair.start()
    sa = oldest_sa(pair.moon)
    header = Header(sa.spi_i, bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.RESPONSE, 0)
    for number in range(20):
        data = build_message(header, [NotifyPayload(NotifyType.COOKIE, bytes([number] * 8))])
        pair.moon.endpoint.receive_datagram(data, Path(pair.moon.address, pair.sun.address), pair.wire.now)
    pair.wire.collect()
    assert len(pair.wire.sent) <= 5


# Floods


def flood(pair: Pair, count: int, host: Any = None, spread: int = 1) -> None:
    """IKE_SA_INITs whose handshakes are never completed."""
    payloads: list[Payload] = [
        SaPayload(parse_ike_proposals("aes256gcm16-prfsha384-x25519")),
        KePayload(31, b"\x09" + bytes(31)),
        NoncePayload(bytes(32)),
    ]
    for number in range(count):
        header = Header(number.to_bytes(8, "big"), bytes(8), ExchangeType.IKE_SA_INIT, HeaderFlag.INITIATOR, 0)
        source = SocketAddress((host or ATTACKER) + number % spread, 500)
        pair.sun.endpoint.receive_datagram(
            build_message(header, payloads), Path(pair.sun.address, source), pair.wire.now
        )


def test_one_address_has_one_half_open_ike_sa_without_a_cookie() -> None:
    pair = make_pair(limits=Limits(half_open_per_address=5))
    flood(pair, 200)
    assert pair.sun.endpoint.size == 1
    pair.establish()


def test_one_ipv6_network_is_one_address() -> None:
    pair = make_pair(limits=Limits(half_open_per_address=5))
    flood(pair, 100, ip_address("2001:db8::1"), spread=100)
    assert pair.sun.endpoint.size == 1


def test_one_ipv6_site_is_a_few_addresses() -> None:
    """A /48 is what one customer may have (RFC 6177): it does not occupy the half-open IKE_SAs of all others.

    Of each two requests the first has no SPI, and is dropped.
    """
    pair = make_pair(limits=Limits(half_open=100, half_open_per_address=2, cookie_threshold=1000))
    for network in range(200):
        flood(pair, 2, ip_address(f"2001:db8:0:{network:x}::1"))
    assert pair.sun.endpoint.size == 20
    flood(pair, 2, ip_address("2001:db8:1::1"))
    assert pair.sun.endpoint.size == 21
    pair.wire.run(2 * Limits().half_open_seconds)
    assert pair.sun.endpoint.size == 0
    flood(pair, 2, ip_address("2001:db8::1"))  # those that are over do not count
    assert pair.sun.endpoint.size == 1


def test_a_flood_with_forged_addresses_meets_cookies_and_a_good_client_gets_through() -> None:
    pair = make_pair()
    pair.wire.fate = lambda datagram: ()
    flood(pair, 3_000, ip_address("10.0.0.1"), spread=3_000)
    assert pair.sun.endpoint.size == 30
    pair.wire.collect()
    pair.wire.sent.clear()
    pair.wire.fate = lambda datagram: (0.01,)
    pair.establish()
    ours = [d for d in pair.wire.sent if pair.moon.address.host in (d.path.local.host, d.path.remote.host)]
    assert len(ours) == 6  # asked for a cookie once


def test_cookies_are_bound_to_address_nonce_and_spi() -> None:
    pair = make_pair(limits=Limits(cookie_threshold=0))
    jar = pair.sun.endpoint.state.cookies
    source = SocketAddress(ATTACKER, 500)
    cookie = jar.generate(b"n" * 32, source, b"s" * 8, 0.0)
    assert jar.accepts(cookie, b"n" * 32, source, b"s" * 8)
    assert not jar.accepts(cookie, b"m" * 32, source, b"s" * 8)
    assert not jar.accepts(cookie, b"n" * 32, SocketAddress(ATTACKER, 501), b"s" * 8)
    assert not jar.accepts(cookie, b"n" * 32, source, b"t" * 8)
    assert not jar.accepts(b"", b"n" * 32, source, b"s" * 8)
    jar.generate(b"n" * 32, source, b"s" * 8, 61.0)
    assert jar.accepts(cookie, b"n" * 32, source, b"s" * 8)
    jar.generate(b"n" * 32, source, b"s" * 8, 122.0)
    assert not jar.accepts(cookie, b"n" * 32, source, b"s" * 8)
    pair.establish()


@pytest.mark.parametrize("field", ["spi", "flags", "id", "response"])
def test_invalid_first_messages_are_dropped(field: str) -> None:
    pair = make_pair()
    spi_i = bytes(8) if field == "spi" else b"x" * 8
    flags = {"flags": 0, "response": HeaderFlag.INITIATOR | HeaderFlag.RESPONSE}.get(field, HeaderFlag.INITIATOR)
    header = Header(spi_i, bytes(8), ExchangeType.IKE_SA_INIT, flags, 1 if field == "id" else 0)
    data = build_message(header, [NoncePayload(bytes(32))])
    pair.sun.endpoint.receive_datagram(data, Path(pair.sun.address, SocketAddress(ATTACKER, 500)), pair.wire.now)
    pair.wire.collect()
    assert pair.sun.endpoint.size == 0


@given(data=st.binary(max_size=300), port=st.sampled_from([500, 4500]), marker=st.booleans())
@examples(300)
def test_any_datagram_is_survived(data: bytes, port: int, marker: bool) -> None:
    pair = make_pair()
    path = Path(SocketAddress(pair.sun.address.host, port), SocketAddress(ATTACKER, 500))
    pair.sun.endpoint.receive_datagram(bytes(4) * marker + data, path, 0.0)
    assert pair.sun.endpoint.size == 0
