"""Whole ESP packets from the RFCs."""

import hmac
import os

import pytest

from warren_ikev2.children import EspKeys
from warren_ikev2.constants import Encr, Integ
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.sa import InboundSa
from warren_ikev2.esp.selectors import SelectorCheck
from warren_ikev2.esp.transforms import build_transform
from warren_ikev2.selectors import TrafficSelector
from warren_ikev2.suites import EspSuite

EVERYTHING = (TrafficSelector.parse("0.0.0.0/0"),)
CHACHA = EspSuite(Encr.CHACHA20_POLY1305, None)
CBC = EspSuite(Encr.AES_CBC, 128, Integ.HMAC_SHA2_512_256)

# RFC 7634, appendix A
CHACHA_KEYS = EspKeys(
    bytes.fromhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"), bytes.fromhex("a0a1a2a3"), b""
)
CHACHA_INNER = bytes.fromhex(
    "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec1000073627"
    "08090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b"
    "2c2d2e2f3031323334353637"
)
CHACHA_PACKET = bytes.fromhex(
    "0102030400000005101112131415161724039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6"
    "14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da"
    "9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43"
)

# RFC 3602, 4, cases 5 to 8: key, SPI, sequence, IV, payload, next header, packet without ICV
CBC_CASES = {
    5: (
        "90d382b410eeba7ad938c46cec1a82bf",
        "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"
        "3031323334353637",
        1,
        "0000432100000001e96e8c08ab465763fd098d45dd3ff893f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856"
        "a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6",
    ),
    6: (
        "90d382b410eeba7ad938c46cec1a82bf",
        "0800b5e8a80a0500a69c083d0b660e00777777777777777777777777",
        1,
        "000043210000000869d08df7d203329db093fc4924e5bd80f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75",
    ),
    7: (
        "0123456789abcdef0123456789abcdef",
        "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a2040008090a0b0c0d0e0f101112131415161718191a1b"
        "1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637",
        4,
        "0000876500000002f4e765244f6407adf13dc1380f673f37773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8"
        "e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5"
        "a100b842f1c22f0d",
    ),
    8: (
        "0123456789abcdef0123456789abcdef",
        "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300ffffffffffffffffffffffffffffffffffffffff"
        "ffffffffffffffffffffffff",
        4,
        "000087650000000585d47224b5f3dd5d2101d4ea8dffab2215b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb5"
        "0f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3d2726d9b5ef6affc6d17a0decbb13892",
    ),
}


def test_rfc7634_appendix_a_is_opened_once() -> None:
    sa = InboundSa(0x01020304, CHACHA, CHACHA_KEYS, SelectorCheck(EVERYTHING, EVERYTHING), os.urandom)
    assert sa.open(CHACHA_PACKET) == CHACHA_INNER
    with pytest.raises(PacketDroppedError) as caught:
        sa.open(CHACHA_PACKET)
    assert caught.value.reason is DropReason.REPLAY


@pytest.mark.parametrize("case", CBC_CASES)
def test_rfc3602_packets_open_to_payload_and_padding(case: int) -> None:
    """The RFC leaves authentication out of its packets, so the ICV here is ours."""
    key, payload, next_header, packet = CBC_CASES[case]
    protected, plaintext = bytes.fromhex(packet), bytes.fromhex(payload)
    pad = -(len(plaintext) + 2) % 16
    transform = build_transform(CBC, EspKeys(bytes.fromhex(key), b"", bytes(64)), os.urandom)
    opened = transform.open(protected + hmac.digest(bytes(64), protected, "sha512")[:32], 0)
    assert opened == plaintext + bytes(range(1, pad + 1)) + bytes((pad, next_header))


@pytest.mark.parametrize("case", [7, 8])
def test_rfc3602_tunnel_packets_open_to_the_inner_packet(case: int) -> None:
    key, payload, _, packet = CBC_CASES[case]
    protected = bytes.fromhex(packet)
    sa = InboundSa(
        0x8765, CBC, EspKeys(bytes.fromhex(key), b"", bytes(64)), SelectorCheck(EVERYTHING, EVERYTHING), os.urandom
    )
    assert sa.open(protected + hmac.digest(bytes(64), protected, "sha512")[:32]) == bytes.fromhex(payload)


@pytest.mark.parametrize(
    ("suite", "keys"),
    [
        (EspSuite(Encr.AES_GCM_16, 256), EspKeys(bytes(31), bytes(4), b"")),
        (EspSuite(Encr.AES_GCM_16, 256), EspKeys(bytes(32), bytes(3), b"")),
        (EspSuite(Encr.AES_GCM_16, 256, Integ.HMAC_SHA2_256_128), EspKeys(bytes(32), bytes(4), bytes(32))),
        (EspSuite(Encr.AES_CBC, 256), EspKeys(bytes(32), b"", b"")),
        (EspSuite(Encr.AES_CBC, 256, Integ.HMAC_SHA2_256_128), EspKeys(bytes(32), b"", bytes(31))),
        (EspSuite(Encr.AES_CBC, 256, Integ.HMAC_SHA2_256_128), EspKeys(bytes(31), b"", bytes(32))),
    ],
)
def test_unusable_keys_are_refused_without_naming_them(suite: EspSuite, keys: EspKeys) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build_transform(suite, keys, os.urandom)
    assert "\\x00" not in str(caught.value) + repr(caught.value)
