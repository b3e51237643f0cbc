"""MD4, DES and SHA-1 for MSCHAPv2 (RFC 2759) with gateways of others. They are insecure; nothing else may import this.

They are used inside an SA whose server has authenticated by a signature. DES and SHA-1 are the library's. MD4 follows RFC 1320 and
is our own, as looked up on 2026-11-30: `cryptography` 50 has none (`hazmat.decrepit` holds ciphers only), and `hashlib` has it only
where OpenSSL's legacy provider is loaded, which 3.0 and later do not do by default and Python cannot ask for. A library for this one
digest would be a dependency of every gateway. `libs/ikev2/tests/test_ike_vectors.py` has the vectors of RFC 1320, A.5.
"""

import struct
from collections.abc import Callable, Sequence

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import ECB

_MASK = 0xFFFFFFFF
_MD4_ROUNDS: tuple[tuple[Callable[[int, int, int], int], int, Sequence[int], Sequence[int]], ...] = (
    (lambda x, y, z: (x & y) | (~x & z), 0, range(16), (3, 7, 11, 19)),
    (
        lambda x, y, z: (x & y) | (x & z) | (y & z),
        0x5A827999,
        (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
        (3, 5, 9, 13),
    ),
    (
        lambda x, y, z: x ^ y ^ z,
        0x6ED9EBA1,
        (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15),
        (3, 9, 11, 15),
    ),
)


def sha1(*parts: bytes) -> bytes:
    """SHA-1 of the joined parts."""
    digest = hashes.Hash(hashes.SHA1())  # noqa: S303 - RFC 2759 and the NAT detection hash of RFC 7296 know no other
    for part in parts:
        digest.update(part)
    return digest.finalize()


def md4(data: bytes) -> bytes:
    """MD4 (RFC 1320)."""
    padded = data + b"\x80" + bytes(-(len(data) + 9) % 64) + struct.pack("<Q", 8 * len(data))
    state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476]
    for offset in range(0, len(padded), 64):
        words = struct.unpack_from("<16I", padded, offset)
        state = [(old + new) & _MASK for old, new in zip(state, _md4_block(list(state), words), strict=True)]
    return struct.pack("<4I", *state)


def _md4_block(state: list[int], words: Sequence[int]) -> list[int]:
    a, b, c, d = state
    for mix, constant, order, shifts in _MD4_ROUNDS:
        for step, index in enumerate(order):
            value = (a + mix(b, c, d) + words[index] + constant) & _MASK
            shift = shifts[step % 4]
            a, b, c, d = d, ((value << shift) | (value >> (32 - shift))) & _MASK, b, c
    return [a, b, c, d]


def des_encrypt(key: bytes, block: bytes) -> bytes:
    """One block under a key of 7 bytes, which RFC 2759, 8.6 spreads over 8: the lowest bit of each is parity, which nothing reads.

    Triple DES with three equal keys is DES (NIST SP 800-67, 3.2), the form in which the library has it.
    """
    bits = int.from_bytes(key, "big")
    spread = bytes((bits >> shift & 0x7F) << 1 for shift in range(49, -1, -7))
    encryptor = Cipher(TripleDES(spread * 3), ECB()).encryptor()  # noqa: S305 - RFC 2759 knows no other
    return encryptor.update(block) + encryptor.finalize()
