"""SAs end to end: round trips, every reason to drop, and scapy's ESP as an independent implementation."""

import os
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw

from warren_ikev2.children import EspKeys
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.sa import InboundSa, OutboundSa
from warren_ikev2.esp.selectors import SelectorCheck
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.suites import EspSuite, esp_suite
from warren_testkit.examples import examples
from warren_testkit.ikev2.proposals import parse_esp_proposal

OUTER = IP(src="1.1.1.1", dst="2.2.2.2")
SPI = 0xC0DECAFE
EVERYTHING = (TrafficSelector.parse("0.0.0.0/0"), TrafficSelector.parse("::/0"))
ANY = SelectorCheck(EVERYTHING, EVERYTHING)
KEY = bytes(range(1, 33))
CIPHERS = {
    "aes128gcm16": EspKeys(KEY[:16], b"salt", b""),
    "aes256gcm16": EspKeys(KEY, b"salt", b""),
    "chacha20poly1305": EspKeys(KEY, b"salt", b""),
    "aes128-sha256": EspKeys(KEY[:16], b"", KEY),
    "aes256-sha384": EspKeys(KEY, b"", KEY + KEY[:16]),
    "aes256-sha512": EspKeys(KEY, b"", KEY + KEY),
}
SCAPY_NAMES = {
    "aes256gcm16": {"crypt_algo": "AES-GCM", "crypt_key": KEY + b"salt"},
    "chacha20poly1305": {"crypt_algo": "CHACHA20-POLY1305", "crypt_key": KEY + b"salt"},
    "aes128-sha256": {
        "crypt_algo": "AES-CBC", "crypt_key": KEY[:16], "auth_algo": "SHA2-256-128", "auth_key": KEY,
    },
    "aes256-sha384": {
        "crypt_algo": "AES-CBC", "crypt_key": KEY, "auth_algo": "SHA2-384-192", "auth_key": KEY + KEY[:16],
    },
    "aes256-sha512": {
        "crypt_algo": "AES-CBC", "crypt_key": KEY, "auth_algo": "SHA2-512-256", "auth_key": KEY + KEY,
    },
}  # fmt: skip


def ipv4(payload: bytes = b"x" * 40, **fields: Any) -> bytes:
    return bytes(IP(src="10.1.0.1", dst="10.2.0.1", **fields) / UDP(sport=7, dport=9) / Raw(payload))


def ipv6(payload: bytes = b"x" * 40) -> bytes:
    return bytes(IPv6(src="2001:db8::1", dst="2001:db8:1::1") / UDP(sport=7, dport=9) / Raw(payload))


def suite(cipher: str, *, esn: bool = False) -> EspSuite:
    return esp_suite(parse_esp_proposal(cipher + "-esn" * esn))


def pair(cipher: str, *, esn: bool = False, selectors: SelectorCheck = ANY) -> tuple[OutboundSa, InboundSa]:
    keys = CIPHERS[cipher]
    outbound = OutboundSa(SPI, suite(cipher, esn=esn), keys, ANY, os.urandom)
    return outbound, InboundSa(SPI, suite(cipher, esn=esn), keys, selectors, os.urandom)


def reason_of(sa: InboundSa, packet: bytes) -> DropReason:
    with pytest.raises(PacketDroppedError) as caught:
        sa.open(packet)
    return caught.value.reason


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize("cipher", CIPHERS)
def test_packets_survive_in_any_order(cipher: str, esn: bool) -> None:
    sender, receiver = pair(cipher, esn=esn)
    packets = [ipv4(bytes(length)) for length in range(40)] + [ipv6(bytes(length)) for length in range(40)]
    sealed = [sender.seal(packet) for packet in packets]
    assert [receiver.open(packet) for packet in reversed(sealed)] == packets[::-1]
    assert receiver.packets == sender.sequence == 80
    assert receiver.octets == sender.octets == sum(map(len, packets))


@examples(60)
@given(payload=st.binary(max_size=1500), cipher=st.sampled_from(sorted(CIPHERS)), at=st.integers(0, 10_000))
def test_one_flipped_bit_anywhere_is_detected(payload: bytes, cipher: str, at: int) -> None:
    sender, receiver = pair(cipher)
    sealed = sender.seal(ipv4(payload))
    assert len(sealed) % 4 == 0
    broken = bytearray(sealed)
    broken[at % len(sealed)] ^= 1 << at % 8
    if broken[:4] == sealed[:4]:
        assert reason_of(receiver, bytes(broken)) in (DropReason.INTEGRITY, DropReason.REPLAY)
    assert receiver.open(sealed) == ipv4(payload)


@given(junk=st.binary(max_size=200), cipher=st.sampled_from(sorted(CIPHERS)))
def test_no_bytes_raise_anything_else(junk: bytes, cipher: str) -> None:
    assert reason_of(pair(cipher, esn=True)[1], junk) in DropReason


@pytest.mark.parametrize("cipher", CIPHERS)
def test_iv_never_repeats(cipher: str) -> None:
    sender, _ = pair(cipher)
    length, packet = sender.transform.iv_length, ipv4()
    assert len({sender.seal(packet)[8 : 8 + length] for _ in range(300)}) == 300


def test_esn_high_half_is_authenticated_and_not_sent() -> None:
    for cipher in CIPHERS:
        sender, receiver = pair(cipher, esn=True)
        sender.sequence = receiver.replay.top = (1 << 32) - 3
        sealed = [sender.seal(ipv4()) for _ in range(5)]
        assert [struct.unpack(">I", packet[4:8])[0] for packet in sealed] == [2**32 - 2, 2**32 - 1, 0, 1, 2]
        assert [receiver.open(packet) for packet in sealed] == [ipv4()] * 5
        stale = pair(cipher, esn=True)[1]
        assert reason_of(stale, sealed[3]) is DropReason.INTEGRITY


def test_sequence_numbers_run_out_without_esn() -> None:
    sender, _ = pair("aes256gcm16")
    sender.sequence = 2**32 - 2
    sender.seal(ipv4())
    with pytest.raises(PacketDroppedError) as caught:
        sender.seal(ipv4())
    assert caught.value.reason is DropReason.EXHAUSTED


def test_a_forged_packet_does_not_move_the_window() -> None:
    sender, receiver = pair("aes256gcm16")
    good = sender.seal(ipv4())
    forged = good[:4] + struct.pack(">I", 2**31) + good[8:]
    assert reason_of(receiver, forged) is DropReason.INTEGRITY
    assert receiver.open(good) == ipv4()


def test_dummy_packets_are_counted_against_replay_and_dropped() -> None:
    sender, receiver = pair("chacha20poly1305")
    dummy = sender.seal_dummy(100)
    assert reason_of(receiver, dummy) is DropReason.DUMMY
    assert reason_of(receiver, dummy) is DropReason.REPLAY


@pytest.mark.parametrize("cipher", ["aes256gcm16", "aes256-sha384"])
def test_tfc_padding_behind_the_inner_packet_is_cut_off(cipher: str) -> None:
    sender, receiver = pair(cipher)
    inner = ipv4()
    assert receiver.open(sender.protect(_padded(inner + bytes(200), 4))) == inner


def _padded(plaintext: bytes, next_header: int, alignment: int = 16) -> bytes:
    pad = -(len(plaintext) + 2) % alignment
    return plaintext + bytes(range(1, pad + 1)) + bytes((pad, next_header))


@pytest.mark.parametrize(
    "plaintext",
    [
        _padded(ipv4(), 41),
        _padded(ipv6(), 4),
        _padded(ipv4(), 17),
        _padded(ipv4()[:-1], 4),
        _padded(b"\x45" + bytes(15), 4),
        ipv4() + bytes(10) + b"\x0a\x04",
        b"\xff" * 32,
        bytes(32),
    ],
    ids=["6-for-4", "4-for-6", "transport", "cut", "short", "bad-padding", "ones", "zeroes"],
)
def test_invalid_authentic_plaintexts_are_refused(plaintext: bytes) -> None:
    sender, receiver = pair("aes256gcm16")
    assert reason_of(receiver, sender.protect(plaintext)) is DropReason.MALFORMED


def test_an_inner_packet_outside_the_selectors_is_refused() -> None:
    only = SelectorCheck((TrafficSelector.parse("10.1.0.0/24"),), (TrafficSelector.parse("10.2.0.0/24"),))
    sender, receiver = pair("aes256gcm16", selectors=only)
    assert receiver.open(sender.seal(ipv4())) == ipv4()
    outside = bytes(IP(src="10.9.0.1", dst="10.2.0.1") / ICMP())
    assert reason_of(receiver, sender.seal(outside)) is DropReason.SELECTOR
    assert reason_of(receiver, sender.seal(ipv6())) is DropReason.SELECTOR


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize("cipher", SCAPY_NAMES)
def test_scapy_opens_what_we_seal(cipher: str, esn: bool) -> None:
    sender, _ = pair(cipher, esn=esn)
    scapy = SecurityAssociation(ESP, SPI, esn_en=esn, esn=0, tunnel_header=OUTER, **SCAPY_NAMES[cipher])
    for inner in (ipv4(), bytes(IP(src="10.1.0.1", dst="10.2.0.1") / TCP() / b"abc")):
        outer = IP(src="1.1.1.1", dst="2.2.2.2", proto=50) / Raw(sender.seal(inner))
        assert bytes(scapy.decrypt(IP(bytes(outer)), esn_en=esn, esn=0)) == inner


@pytest.mark.parametrize("cipher", SCAPY_NAMES)
def test_we_open_what_scapy_seals(cipher: str) -> None:
    _, receiver = pair(cipher)
    scapy = SecurityAssociation(ESP, SPI, tunnel_header=OUTER, **SCAPY_NAMES[cipher])
    for _ in range(3):
        sealed = scapy.encrypt(IP(ipv4()))
        assert receiver.open(bytes(sealed.payload)) == ipv4()


@pytest.mark.parametrize("cipher", ["aes256gcm16", "chacha20poly1305"])
def test_sealed_packets_equal_scapy_s_byte_for_byte(cipher: str) -> None:
    """With the same IV, and behind the same outer header, both make the same packet."""
    sender, _ = pair(cipher)
    scapy = SecurityAssociation(ESP, SPI, tunnel_header=OUTER, **SCAPY_NAMES[cipher])
    for number in (1, 2, 3):
        expected = scapy.encrypt(IP(ipv4(bytes(number))), seq_num=number, iv=number.to_bytes(8, "big"))
        assert sender.seal(ipv4(bytes(number))) == bytes(expected.payload)
