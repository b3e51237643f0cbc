"""Messages as bytes: round trips, comparison with scapy, and every kind of malformed input."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib import ikev2 as scapy_ike

from warren_ikev2.constants import ExchangeType, HeaderFlag, NotifyType, PayloadType, Protocol
from warren_ikev2.errors import (
    MalformedMessageError,
    ProtocolError,
    UnsupportedCriticalPayloadError,
    UnsupportedVersionError,
)
from warren_ikev2.fragments import Reassembly
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.wire.header import Header
from warren_ikev2.wire.message import (
    EncryptedPart,
    Message,
    build_chain,
    build_generic_header,
    build_message,
    parse_chain,
    parse_message,
)
from warren_ikev2.wire.payloads import (
    AuthPayload,
    CertPayload,
    CertReqPayload,
    CpPayload,
    DeletePayload,
    EapPayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    UnknownPayload,
    VendorPayload,
)
from warren_testkit.examples import examples
from warren_testkit.ikev2.proposals import parse_esp_proposals, parse_ike_proposals

HEADER = Header(b"initiatr", b"respondr", ExchangeType.IKE_SA_INIT, HeaderFlag.INITIATOR, 7)
SELECTORS = (
    TrafficSelector.parse("10.0.0.0/8"),
    TrafficSelector(ip_address("2001:db8::"), ip_address("2001:db8::ff"), 17, 53, 53),
)
PAYLOADS: list[Payload] = [
    SaPayload(parse_ike_proposals("aes256gcm16-prfsha384-x25519-ke1_mlkem768", "aes256-aes128-sha256-modp2048")),
    SaPayload(tuple(p.with_spi(b"\x01\x02\x03\x04") for p in parse_esp_proposals("chacha20poly1305-esn-noesn"))),
    KePayload(31, bytes(32)),
    IdPayload(PayloadType.IDI, 2, b"moon.example"),
    IdPayload(PayloadType.IDR, 1, b"\xc0\x00\x02\x01"),
    CertPayload(4, b"certificate"),
    CertReqPayload(4, bytes(40)),
    AuthPayload(2, bytes(48)),
    NoncePayload(bytes(32)),
    NotifyPayload(NotifyType.COOKIE, b"cookie"),
    NotifyPayload(NotifyType.REKEY_SA, b"", Protocol.ESP, b"\x01\x02\x03\x04"),
    DeletePayload(Protocol.IKE),
    DeletePayload(Protocol.ESP, (b"\x01\x02\x03\x04", b"\x05\x06\x07\x08")),
    VendorPayload(b"vendor"),
    TsPayload(PayloadType.TSI, SELECTORS),
    TsPayload(PayloadType.TSR, SELECTORS[:1]),
    CpPayload(1, ((1, b""), (3, b"\x0a\x00\x00\x35"))),
    EapPayload(b"\x01\x02\x00\x05\x01"),
    UnknownPayload(200, b"unknown"),
]


def parse(data: bytes) -> Message:
    return parse_message(data)


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: type(payload).__name__)
def test_payloads_survive_the_round_trip(payload: Payload) -> None:
    message = parse(build_message(HEADER, [payload]))
    assert message.payloads.items == (payload,)
    assert (message.header.spi_i, message.header.spi_r, message.header.message_id) == (b"initiatr", b"respondr", 7)


def test_a_message_of_all_payloads() -> None:
    message = parse(build_message(HEADER, PAYLOADS))
    assert message.payloads.items == tuple(PAYLOADS)


def test_scapy_reads_what_we_write() -> None:
    packet = scapy_ike.IKEv2(build_message(HEADER, [p for p in PAYLOADS if not isinstance(p, UnknownPayload)]))
    assert packet.exch_type == 34
    assert packet.id == 7
    assert packet[scapy_ike.IKEv2_KE].group == 31
    assert packet[scapy_ike.IKEv2_Nonce].nonce == bytes(32)
    assert packet[scapy_ike.IKEv2_Notify].type == NotifyType.COOKIE
    transforms = packet[scapy_ike.IKEv2_Proposal].trans
    assert (transforms.transform_type, transforms.transform_id, transforms.key_length) == (1, 20, 256)


def test_we_read_what_scapy_writes() -> None:
    transforms = scapy_ike.IKEv2_Transform(transform_type="Encryption", transform_id=12, length=12, key_length=256)
    transforms /= scapy_ike.IKEv2_Transform(transform_type="PRF", transform_id=5)
    transforms /= scapy_ike.IKEv2_Transform(transform_type="Integrity", transform_id=12)
    transforms /= scapy_ike.IKEv2_Transform(transform_type="GroupDesc", transform_id=14)
    packet = (
        scapy_ike.IKEv2(init_SPI=b"12345678", exch_type="IKE_SA_INIT", flags="Initiator", next_payload="SA")
        / scapy_ike.IKEv2_SA(next_payload="KE", prop=scapy_ike.IKEv2_Proposal(trans_nb=4, trans=transforms, proposal=1))
        / scapy_ike.IKEv2_KE(next_payload="Nonce", group=14, ke=bytes(256))
        / scapy_ike.IKEv2_Nonce(next_payload="Notify", nonce=bytes(20))
        / scapy_ike.IKEv2_Notify(type=16388, notify=bytes(20))
    )
    message = parse(bytes(packet))
    assert str(message.payloads.require(SaPayload).proposals[0]) == "aes256-prfsha256-sha256-modp2048"
    assert message.payloads.require(KePayload).group == 14
    assert message.payloads.notify(16388) is not None


# Malformed input


def raw(kind: int, body: bytes, *, length: int | None = None, critical: bool = False) -> bytes:
    """A message with one payload, written by hand."""
    size = len(body) + 4 if length is None else length
    payload = bytes([0, 0x80 if critical else 0]) + size.to_bytes(2, "big") + body
    total = 28 + len(payload)
    return struct.pack("!8s8sBBBBII", b"initiatr", b"respondr", kind, 0x20, 34, 8, 0, total) + payload


def proposal(
    *, count: int = 1, spi_size: int = 0, transform: bytes = b"\0\0\0\x08\x01\0\0\x0c", more: int = 0
) -> bytes:
    body = bytes([1, 1, spi_size, count]) + transform
    return bytes([more, 0]) + (len(body) + 4).to_bytes(2, "big") + body


MALFORMED = {
    "empty": b"",
    "header alone too short": bytes(27),
    "length field of another size": build_message(HEADER, PAYLOADS) + b"\0",
    "payload length 0": raw(40, bytes(16), length=0),
    "payload length 3": raw(40, bytes(16), length=3),
    "payload longer than the message": raw(40, bytes(16), length=100),
    "trailing bytes": raw(40, bytes(16), length=16),
    "nonce too short": raw(40, bytes(15)),
    "nonce too long": raw(40, bytes(257)),
    "KE without data": raw(34, b"\0\x1f\0\0"),
    "KE without header": raw(34, b"\0"),
    "SA empty": raw(33, b""),
    "SA proposal without transforms but a count": raw(33, proposal(transform=b"")),
    "SA count too low": raw(33, proposal(count=0)),
    "SA count too high": raw(33, proposal(count=2)),
    "SA spi longer than the proposal": raw(33, proposal(spi_size=200)),
    "SA last field": raw(33, proposal(more=7)),
    "SA promises another proposal": raw(33, proposal(more=2)),
    "SA transform length 0": raw(33, proposal(transform=b"\0\0\0\0\x01\0\0\x0c")),
    "SA attribute cut off": raw(33, proposal(transform=b"\0\0\0\x0a\x01\0\0\x0c\x80\x0e")),
    "SA attribute longer than the transform": raw(33, proposal(transform=b"\0\0\0\x0c\x01\0\0\x0c\0\x0e\0\xff")),
    "ID without type": raw(35, b"\x02\0"),
    "AUTH without method": raw(39, b""),
    "CERT empty": raw(37, b""),
    "notify cut off": raw(41, b"\x01\x04"),
    "notify spi longer than the payload": raw(41, b"\x03\xff\0\x01"),
    "delete of another size": raw(42, b"\x03\x04\0\x02" + bytes(4)),
    "delete with spis of no size": raw(42, b"\x03\0\0\x05"),
    "delete with a huge count": raw(42, b"\x03\x04\xff\xff" + bytes(8)),
    "TS count too high": raw(44, b"\xff\0\0\0" + b"\x07\0\0\x10" + bytes(12)),
    "TS too long": raw(44, b"\x01\0\0\0" + b"\x07\0\0\x11" + bytes(13)),
    "TS ends before it starts": raw(44, b"\x01\0\0\0" + b"\x07\0\0\x10\0\0\xff\xff" + b"\x0a\0\0\x02\x0a\0\0\x01"),
    "TS length 0": raw(44, b"\x01\0\0\0" + b"\x07\0\0\0"),
    "CP attribute longer than the payload": raw(47, b"\x01\0\0\0\0\x01\0\xff"),
    "SKF number 0": raw(53, b"\0\0\0\x01" + bytes(40)),
    "SKF number above total": raw(53, b"\0\x03\0\x02" + bytes(40)),
    "SKF total 0": raw(53, b"\0\0\0\0" + bytes(40)),
    "SKF without fields": raw(53, b"\0\x01"),
    "too many payloads": build_message(HEADER, [NotifyPayload(16384)] * 257),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_input_is_one_typed_error(name: str) -> None:
    with pytest.raises(MalformedMessageError):
        parse(MALFORMED[name])


def test_an_encrypted_payload_must_be_last() -> None:
    data = bytearray(build_message(HEADER, [NoncePayload(bytes(32)), NoncePayload(bytes(32))]))
    data[16] = PayloadType.SK
    with pytest.raises(MalformedMessageError):
        parse(bytes(data))


def test_no_encrypted_payload_within_another() -> None:
    with pytest.raises(MalformedMessageError):
        parse_chain(PayloadType.SK, build_generic_header(0, 10) + bytes(10))


def test_unknown_payloads_are_skipped_unless_they_are_critical() -> None:
    assert parse(raw(200, b"what")).payloads.items == (UnknownPayload(200, b"what"),)
    with pytest.raises(UnsupportedCriticalPayloadError) as caught:
        parse(raw(200, b"what", critical=True))
    assert caught.value.data == bytes([200])
    parse(raw(40, bytes(16), critical=True))


def test_another_major_version() -> None:
    data = bytearray(raw(40, bytes(16)))
    data[17] = 0x30
    with pytest.raises(UnsupportedVersionError):
        parse(bytes(data))
    data[17] = 0x21
    parse(bytes(data))


def test_two_payloads_where_one_may_be() -> None:
    message = parse(build_message(HEADER, [NoncePayload(bytes(32)), NoncePayload(bytes(32))]))
    with pytest.raises(MalformedMessageError):
        message.payloads.first(NoncePayload)


def test_a_transform_with_unknown_attributes_is_marked() -> None:
    body = proposal(transform=b"\0\0\0\x0c\x01\0\0\x0c\x80\x11\x01\x00")
    assert parse(raw(33, body)).payloads.require(SaPayload).proposals[0].transforms[0].unknown_attributes


def test_reserved_bits_are_ignored() -> None:
    data = bytearray(raw(40, bytes(16)))
    data[29] = 0x7F
    parse(bytes(data))


def test_reassembly_is_limited() -> None:
    window = Reassembly(max_fragments=4, max_bytes=100)

    def part(number: int, total: int) -> EncryptedPart:
        return EncryptedPart(PayloadType.SKF, 40 if number == 1 else 0, b"", b"", number, total)

    with pytest.raises(MalformedMessageError):
        window.add(1, part(1, 5), b"")
    assert window.add(1, part(2, 2), b"b") is None
    assert window.add(1, part(2, 2), b"b") is None
    assert window.add(1, part(1, 2), b"a") == (40, b"ab")
    assert window.add(2, part(1, 2), b"a") is None
    assert window.add(2, part(1, 3), b"x") is None
    assert window.add(2, part(2, 2), b"ignored") is None
    assert window.add(2, part(3, 3), b"z") is None
    assert window.add(2, part(2, 3), b"y") == (40, b"xyz")
    with pytest.raises(MalformedMessageError):
        window.add(3, part(1, 2), bytes(101))


@given(st.binary(max_size=400))
@examples(300)
def test_any_bytes_parse_or_raise_the_typed_error(data: bytes) -> None:
    try:
        parse_message(data)
    except ProtocolError:
        return


@given(kind=st.sampled_from([int(kind) for kind in PayloadType]), body=st.binary(max_size=200))
@examples(500)
def test_any_payload_body_parses_or_raises_and_is_stable(kind: int, body: bytes) -> None:
    try:
        message = parse_message(raw(kind, body))
    except ProtocolError:
        return
    if message.encrypted is None and not any(isinstance(p, SaPayload) for p in message.payloads):
        first, chain = build_chain(message.payloads)
        assert parse_chain(first, chain) == message.payloads


@given(cuts=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8))
@examples(300)
def test_damaged_messages_parse_or_raise_the_typed_error(cuts: list[tuple[int, int]]) -> None:
    data = bytearray(build_message(HEADER, PAYLOADS))
    for position, value in cuts:
        data[position % len(data)] = value
    try:
        parse_message(bytes(data))
    except ProtocolError:
        return
