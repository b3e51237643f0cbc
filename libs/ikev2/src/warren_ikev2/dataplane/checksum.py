"""The Internet checksum (RFC 1071) of TCP and UDP, verified and completed.

A sum in ones' complement of 16 bits is a number modulo 65,535, so the whole of a packet is one large number and one
remainder. A sum that is not zero is congruent to zero only as 0xFFFF, whose complement is 0.
"""

MODULUS = 0xFFFF
Partial = tuple[int, int]
"""Where a checksum is still to be completed (`NEEDS_CSUM`): the start of what it covers, and from there to its field."""
PROTO_TCP, PROTO_UDP = 6, 17
_FOLDS = tuple((bits, (1 << bits) - 1) for bits in (5536, 2768, 1392, 704))
"""Larger numbers are halved first: 2^(16 n) is congruent to 1, and a shift costs less than a long division. The widths are
those of a packet of 1,384 bytes."""
_SHORT_FOLDS = _FOLDS[2:]
"""Up to `_LONG` bytes; up to `_SHORT`, the division costs less."""
_SHORT, _LONG = 300, 700
_SHORT_BITS = 704
"""A number is not folded below that, where the division costs less."""


def fold_widths(bits: int) -> tuple[tuple[int, int], ...]:
    """How a number of up to so many bits becomes shorter with the same remainder: widths to shift by, with their masks."""
    folds = []
    while bits > _SHORT_BITS:
        bits = (bits // 2 + 31) // 16 * 16
        folds.append((bits, (1 << bits) - 1))
    return tuple(folds)


def ones_complement_sum(data: bytes | bytearray | memoryview) -> int:
    """The sum of the 16-bit words, modulo 65,535; an odd last byte is padded with zero."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    if len(data) > _SHORT:
        for bits, mask in _FOLDS if len(data) > _LONG else _SHORT_FOLDS:
            number = (number >> bits) + (number & mask)
    return number % MODULUS


def complement(total: int) -> int:
    """The checksum of a sum that is not zero, such as one with a pseudo header."""
    return MODULUS - (total % MODULUS or MODULUS)


def pseudo_header(packet: bytes | bytearray | memoryview, protocol: int, length: int) -> int:
    """The sum of the pseudo header of an IPv4 or IPv6 packet (RFC 9293, 3.1; RFC 8200, 8.1)."""
    addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
    return int.from_bytes(addresses, "big") + protocol + length


def transport_is_valid(packet: bytes | memoryview, start: int, protocol: int) -> bool:
    """Whether the checksum of the transport header at `start` matches."""
    length = len(packet) - start
    return (ones_complement_sum(packet[start:]) + pseudo_header(packet, protocol, length)) % MODULUS == 0


def ipv4_header_is_valid(packet: bytes | memoryview) -> bool:
    """Whether the checksum of the IPv4 header matches."""
    return ones_complement_sum(packet[: (packet[0] & 15) * 4]) == 0


def completed(packet: bytes, partial: Partial) -> bytes:
    """The packet with its partial checksum completed: the field holds the sum of the pseudo header (`NEEDS_CSUM`).

    Raises `ValueError` if the field lies outside of the packet.
    """
    start, offset = partial
    field = start + offset
    if field + 2 > len(packet):
        raise ValueError("the checksum field lies outside of the packet")
    value = MODULUS - (ones_complement_sum(packet[start:]) or MODULUS)
    if offset == 6 and not value:
        value = 0xFFFF  # UDP's: zero means that there is none (RFC 768)
    return packet[:field] + value.to_bytes(2, "big") + packet[field + 2 :]


def write_ipv4_checksum(header: bytearray, length: int) -> None:
    """Write the checksum of the first `length` bytes of an IPv4 header."""
    header[10:12] = b"\0\0"
    header[10:12] = complement(ones_complement_sum(header[:length])).to_bytes(2, "big")
