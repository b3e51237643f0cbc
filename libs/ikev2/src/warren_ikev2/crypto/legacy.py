"""MD4, DES and SHA-1 for MSCHAPv2 (RFC 2759) with gateways of others. They are insecure; nothing else may import this.

They are used inside an SA whose server has authenticated by a signature. MD4 follows RFC 1320, DES FIPS 46-3; SHA-1 is the
library's.
"""

import struct
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives import hashes

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


# FIPS 46-3, tables as published: bit 1 is the leftmost.
_IP = tuple(8 * row + 8 - 1 - column for column in (6, 4, 2, 0, 7, 5, 3, 1) for row in range(7, -1, -1))
_EXPANSION = tuple((4 * group + offset) % 32 for group in range(8) for offset in range(-1, 5))
_P = (
    *(16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10),
    *(2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25),
)
_PC1 = (
    *(57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36),
    *(63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4),
)
_PC2 = (
    *(14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2),
    *(41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32),
)
_ROTATIONS = (1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1)
_S_BOXES = (
    "E4D12FB83A6C5907 0F74E2D1A6CB9538 41E8D62BFC973A50 FC8249175B3EA06D",
    "F18E6B34972DC05A 3D47F28EC01A69B5 0E7BA4D158C6932F D8A13F42B67C05E9",
    "A09E63F51DC7B428 D709346A285ECBF1 D6498F30B12C5AE7 1AD069874FE3B52C",
    "7DE3069A1285BC4F D8B56F03472C1AE9 A690CB7DF13E5284 3F06A1D8945BC72E",
    "2C417AB6853FD0E9 EB2C47D150FA3986 421BAD78F9C5630E B8C71E2D6F09A453",
    "C1AF92680D34E75B AF427C9561DE0B38 9EF528C3704A1DB6 432C95FABE17608D",
    "4B2EF08D3C975A61 D0B7491AE35C2F86 14BDC37EAF680592 6BD814A7950FE23C",
    "D2846FB1A93E50C7 1FD8A374C56B0E92 7B419CE206ADF358 21E74A8DFC90356B",
)


def des_encrypt(key: bytes, block: bytes) -> bytes:
    """One block under a key of 7 bytes, whose parity bits are inserted as RFC 2759, 8.6 does."""
    bits = _bits(key)
    with_parity = [bit for start in range(0, 56, 7) for bit in (*bits[start : start + 7], 0)]
    subkeys = _des_subkeys(with_parity)
    data = _bits(block)
    state = [data[index] for index in _IP]
    left, right = state[:32], state[32:]
    for subkey in subkeys:
        left, right = right, [old ^ new for old, new in zip(left, _des_round(right, subkey), strict=True)]
    joined = right + left
    out = [0] * 64
    for position, index in enumerate(_IP):
        out[index] = joined[position]
    return int("".join(map(str, out)), 2).to_bytes(8, "big")


def _bits(data: bytes) -> list[int]:
    return [byte >> shift & 1 for byte in data for shift in range(7, -1, -1)]


def _des_subkeys(key: Sequence[int]) -> list[list[int]]:
    halves = [key[index - 1] for index in _PC1]
    left, right = halves[:28], halves[28:]
    subkeys = []
    for count in _ROTATIONS:
        left, right = left[count:] + left[:count], right[count:] + right[:count]
        joined = left + right
        subkeys.append([joined[index - 1] for index in _PC2])
    return subkeys


def _des_round(right: Sequence[int], subkey: Sequence[int]) -> list[int]:
    mixed = [right[index] ^ key for index, key in zip(_EXPANSION, subkey, strict=True)]
    out: list[int] = []
    for box, start in enumerate(range(0, 48, 6)):
        six = mixed[start : start + 6]
        row = 2 * six[0] + six[5]
        column = 8 * six[1] + 4 * six[2] + 2 * six[3] + six[4]
        value = int(_S_BOXES[box].split()[row][column], 16)
        out += [value >> shift & 1 for shift in (3, 2, 1, 0)]
    return [out[index - 1] for index in _P]
