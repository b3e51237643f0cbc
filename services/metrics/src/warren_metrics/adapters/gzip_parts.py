"""Parts that are compressed once and joined into one gzip member as often as needed (RFC 1952).

Each part is a run of raw DEFLATE blocks that ends at a byte boundary and refers to nothing before it (RFC 1951), so that parts in
any order are one valid stream. The CRC of the whole is computed of those of the parts, without their bytes: in GF(2) polynomials
modulo the CRC's, crc(A + B) = crc(A) * x^(8 * len(B)) + crc(B), as zlib's crc32_combine does it. Several gzip members one after the
other would be simpler, but not every client reads more than the first one.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

LEVEL = 1  # lines that repeat their names compress 15 times at the fastest level already
_RAW = -15  # zlib's window for DEFLATE without a header
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # DEFLATE, no name and no time, fastest, unknown system
_LAST_BLOCK = b"\x03\x00"  # final, fixed codes, empty
_POLYNOMIAL = 0xEDB88320  # of CRC-32, bits reversed: the highest bit is x^0
_ONE = 1 << 31


class Part(NamedTuple):
    """Compressed bytes, and the size, CRC-32 and CRC shift (x^(8 * size)) of what they hold."""

    data: bytes
    size: int
    crc: int
    shift: int

    def plain(self) -> bytes:
        """What was compressed."""
        return zlib.decompressobj(_RAW).decompress(self.data)


def compress(text: bytes) -> Part:
    """Compress one part."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, _RAW)
    data = deflate.compress(text) + deflate.flush(zlib.Z_FULL_FLUSH)
    return Part(data, len(text), zlib.crc32(text), _power(8 * len(text)))


def assemble(parts: Iterable[Part]) -> bytes:
    """One gzip member that holds the parts in order."""
    pieces, crc, size = [_HEADER], 0, 0
    for part in parts:
        pieces.append(part.data)
        crc = _multiply(crc, part.shift) ^ part.crc
        size += part.size
    return b"".join([*pieces, _LAST_BLOCK, struct.pack("<II", crc, size & 0xFFFFFFFF)])


def _multiply(left: int, right: int) -> int:
    """The product of two polynomials modulo the CRC's, bits reversed."""
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = (left << 1) & 0xFFFFFFFF
        right = (right >> 1) ^ _POLYNOMIAL if right & 1 else right >> 1
    return product


def _power(exponent: int) -> int:
    """x^exponent modulo the CRC's polynomial."""
    result, bit = _ONE, 0
    while exponent:
        if bit == len(_SQUARES):
            _SQUARES.append(_multiply(_SQUARES[-1], _SQUARES[-1]))
        if exponent & 1:
            result = _multiply(result, _SQUARES[bit])
        exponent >>= 1
        bit += 1
    return result


_SQUARES = [_ONE >> 1]  # x^1, x^2, x^4 and so on, as far as they were needed
