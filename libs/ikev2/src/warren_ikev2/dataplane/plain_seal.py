"""The batched way out without numpy: a TSO packet becomes trains of ESP packets.

What the full segments of a packet have in common is computed once; each gets its sequence number and its checksum, whose
costs are those of one number made of its payload (see `checksum`). The result is byte for byte what `segment` and
`OutboundSa.seal` produce. It serves every cipher, and so also what the vectorised form (`seal`) does not.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache

from warren_ikev2.dataplane.checksum import MODULUS, PROTO_TCP, fold_widths, ones_complement_sum, pseudo_header
from warren_ikev2.dataplane.segment import TCP_CWR, TCP_FIN_PSH, TransportShape, build_headers, tcp_segment
from warren_ikev2.dataplane.trains import MAX_SEGMENTS, MAX_TRAIN, Train
from warren_ikev2.dataplane.vnet import GSO_ECN, GSO_UDP_L4, VnetHeader
from warren_ikev2.esp.pmtu import sealed_length
from warren_ikev2.esp.sa import OutboundSa

_DF = 0x40
_LOW = 0xFFFFFFFF
_SIZES = 32
"""Segment sizes whose fold widths are cached: traffic has a few at a time."""


class PlainSealer:
    """Segments and seals TSO packets."""

    def seal(self, sa: OutboundSa, packet: memoryview, header: VnetHeader, shape: TransportShape) -> Iterator[Train]:
        """Yield the trains of a TSO packet that `takes` has accepted."""
        segments = cut_tcp(bytes(packet), header, shape)
        most = max(1, min(MAX_SEGMENTS, MAX_TRAIN // sealed_length(sa.transform, len(segments[0]))))
        for at in range(0, len(segments), most):
            sealed = sa.seal_all(segments[at : at + most])
            yield Train(tuple(sealed), len(sealed[0]), len(sealed))

    @staticmethod
    def takes(sa: OutboundSa, packet_length: int, header: VnetHeader, shape: TransportShape) -> bool:
        """Whether `seal` can serve this packet: TCP, and enough sequence numbers."""
        return (
            header.gso_type & ~GSO_ECN != GSO_UDP_L4
            and sa.remaining >= (packet_length - shape.payload) // header.gso_size + 1
        )


def cut_tcp(packet: bytes, header: VnetHeader, shape: TransportShape) -> list[bytes]:
    """The segments of a TCP packet, as of `segment.segment`."""
    size, (_, tcp, start) = header.gso_size, shape
    full, rest = divmod(len(packet) - start, size)
    numbers = range(full + (rest > 0))
    last = numbers[-1]
    # in whole: the first and last segment, where their flags differ from those between; distinct identifications
    begin = 1 if packet[tcp + 13] & TCP_CWR else 0
    end = last if rest or packet[tcp + 13] & TCP_FIN_PSH else last + 1
    if shape.version == 4 and not packet[6] & _DF:
        begin = end = last + 1

    def in_whole(number: int) -> bytes:
        at = start + number * size
        return tcp_segment(packet, shape, number, at, packet[at : at + size])

    return [
        *map(in_whole, numbers[:begin]),
        *_alike(packet, shape, size, range(start + begin * size, start + end * size, size)),
        *map(in_whole, numbers[max(begin, end) :]),
    ]


def _alike(packet: bytes, shape: TransportShape, size: int, places: range) -> list[bytes]:
    """The segments whose payloads of `size` bytes start at these places, and which only their numbers distinguish."""
    _, tcp, start = shape
    head = build_headers(packet, shape, 0, size)
    head[tcp + 13] &= ~(TCP_CWR | TCP_FIN_PSH) & 0xFF
    first = int.from_bytes(head[tcp + 4 : tcp + 8], "big") - start
    head[tcp + 4 : tcp + 8], head[tcp + 16 : tcp + 18] = bytes(4), bytes(2)
    # a sequence number of 32 bits is congruent to the sum of its halves
    common = ones_complement_sum(head[tcp:]) + pseudo_header(head, PROTO_TCP, start - tcp + size)
    before, between, after = bytes(head[: tcp + 4]), bytes(head[tcp + 8 : tcp + 16]), bytes(head[tcp + 18 :])
    pack = struct.Struct(f">{len(before)}sI8sH{len(after)}s").pack
    folds, shift, number_of = _folds(size), size & 1 and 8, int.from_bytes
    segments = []
    for at in places:
        payload = packet[at : at + size]
        number = number_of(payload, "big")
        for bits, mask in folds:
            number = (number >> bits) + (number & mask)
        sequence = first + at & _LOW
        checksum = MODULUS - (((number << shift) + common + sequence) % MODULUS or MODULUS)
        segments.append(pack(before, sequence, between, checksum, after) + payload)
    return segments


@lru_cache(_SIZES)
def _folds(size: int) -> tuple[tuple[int, int], ...]:
    return fold_widths(8 * size + 1)
