"""The batched way in, second half: the packets of an opened train are split into runs, checked and merged (numpy).

One comparison of each row with the row before finds where a run ends; sums over the rows verify all checksums; then each run
is one write to the TUN device. A run passes the selectors once, since its addresses, ports and protocol are equal. Rows
that are not TCP, have other trailers or sizes, or need a changed ECN codepoint, go through `InboundSa.accept` one at
a time, in their place in the order.
"""

import re
from collections import Counter
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from warren_ikev2.dataplane.checksum import MODULUS, PROTO_TCP, pseudo_header
from warren_ikev2.dataplane.layout import ENDINGS, ROW_NUMBERS, Bytes, Numbers, trailer_sum
from warren_ikev2.dataplane.merge import ENDS_RUN, STARTS_RUN, Merger, tcp_header_length
from warren_ikev2.dataplane.open import OpenedTrain, ReceiveLayout
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.ecn import is_unchanged
from warren_ikev2.esp.inner import tos_of
from warren_ikev2.esp.sa import InboundSa

_DF = 0x40
_MODULUS = np.uint64(MODULUS)


def _any_flag(mask: int) -> re.Pattern[bytes]:
    return re.compile(b"[" + b"".join(re.escape(bytes((flags,))) for flags in range(256) if flags & mask) + b"]")


_ENDS, _STARTS = _any_flag(ENDS_RUN), _any_flag(STARTS_RUN)
"""Find a flag byte that ends or starts a run."""


class Shape(NamedTuple):
    """What all packets of a vectorised run have in common: length of all headers, offset of TCP's, pad length."""

    header: int
    tcp: int
    pad: int


class RunLayout:
    """Columns of the inner headers, for one shape in one layout."""

    def __init__(self, layout: ReceiveLayout, shape: Shape) -> None:
        header, tcp, pad = shape
        self.shape = shape
        self.row_length = layout.plain_length
        self.ending = ENDINGS[4 if tcp == 20 else 6][pad]
        self.packet_length = layout.plain_length - len(self.ending)
        self.mss = self.packet_length - header
        mask = bytearray(b"\xff" * header)
        if tcp == 20:
            mask[4:6] = mask[10:12] = b"\0\0"
        mask[tcp + 4 : tcp + 8] = bytes(4)
        mask[tcp + 13] = 0xFF & ~(ENDS_RUN | STARTS_RUN)
        mask[tcp + 16 : tcp + 18] = b"\0\0"
        self.mask: Numbers = np.frombuffer(bytes(mask), "<u4")
        self.headers = layout.plain32[:, : header // 4]
        self.sequence = layout.plain32_wire[:, tcp // 4 + 1]
        self.flags: Bytes = layout.plain8[:, tcp + 13]
        self.ip_header = layout.plain32[:, :5] if tcp == 20 else None
        self.summed = layout.plain32[:, tcp // 4 :]
        self.endings = layout.plain8[:, self.packet_length :]
        self.trailer = trailer_sum(self.packet_length, self.ending)
        self.steps = ROW_NUMBERS * np.uint32(self.mss)
        self.payloads = [
            layout.plain_view[at + header : at + self.packet_length]
            for at in range(0, layout.capacity * self.row_length, self.row_length)
        ]

    def breaks(self, count: int) -> list[int]:
        """The rows that begin a run, and `count`.

        Nearly every train is one run: equal bytes say so faster than a comparison by rows does.
        """
        headers = self.headers[:count]
        masked = (headers & self.mask).tobytes()
        anchors = self.sequence[:count] - self.steps[:count]
        flags = self.flags[:count]
        plain_flags = flags.tobytes()
        if (
            masked == masked[: self.shape.header] * count
            and _are_equal(anchors, count)
            and not _ENDS.search(plain_flags, 0, count - 1)
            and not _STARTS.search(plain_flags, 1)
        ):
            return [0, count]
        starts = ((headers[1:] ^ headers[:-1]) & self.mask).any(axis=1)
        starts |= anchors[1:] != anchors[:-1]
        starts |= (flags[:-1] & ENDS_RUN) != 0
        starts |= (flags[1:] & STARTS_RUN) != 0
        return [0, *(np.flatnonzero(starts) + 1).tolist(), count]

    def sums(self, count: int) -> tuple[Numbers, Numbers | None]:
        """The sums, modulo 65,535, of the TCP segments with their trailers, and for IPv4 of the IP headers, of each row."""
        segments = self.summed[:count].sum(axis=1, dtype=np.uint64)
        segments %= _MODULUS
        if self.ip_header is None:
            return segments, None
        ip_headers = self.ip_header[:count].sum(axis=1, dtype=np.uint64)
        ip_headers %= _MODULUS
        return segments, ip_headers

    def are_valid(self, segments: Numbers, ip_headers: Numbers | None, first: bytes) -> bool:
        """Whether the checksums of a run are right; `first` holds its first packet's headers."""
        pseudo = pseudo_header(first, PROTO_TCP, self.packet_length - self.shape.tcp) % MODULUS
        little = (pseudo >> 8 | (pseudo & 0xFF) << 8) + MODULUS - self.trailer
        expected = (-little % MODULUS).to_bytes(8, "little")
        count = len(segments)
        return segments.tobytes() == expected * count and (
            ip_headers is None or ip_headers.tobytes() == bytes(8 * count)
        )


def _are_equal(numbers: Numbers, count: int) -> bool:
    return bool(numbers.tobytes() == numbers[:1].tobytes() * count)


class RunMerger:
    """Delivers opened trains to `merger`, whose caller flushes it before the next train is opened."""

    def __init__(self, merger: Merger, drops: Counter[DropReason]) -> None:
        self._merger = merger
        self._drops = drops

    def deliver(self, sa: InboundSa, train: OpenedTrain, outer_tos: int) -> None:
        """Deliver all packets of a train in order; what is dropped is counted."""
        columns = self._columns(train)
        if columns is None:
            self._one_at_a_time(sa, train, 0, train.packets, outer_tos)
            return
        starts = columns.breaks(train.packets)
        segments, ip_headers = columns.sums(train.packets)
        for begin, end in pairwise(starts):
            first = self._first_header(columns, train, begin, end, outer_tos)
            rows = slice(begin, end)
            if first and columns.are_valid(segments[rows], None if ip_headers is None else ip_headers[rows], first):
                self._deliver_run(sa, train, columns, first, begin, end)
            else:
                self._one_at_a_time(sa, train, begin, end, outer_tos)

    @staticmethod
    def _columns(train: OpenedTrain) -> RunLayout | None:
        """The columns for the shape of the first packet, if it is TCP and all trailers are those of its shape."""
        layout, plain, count = train
        length = layout.plain_length
        pad = plain[length - 2]
        header = tcp_header_length(plain[: length - 2 - pad]) if pad <= 3 else 0
        if not header:
            return None
        shape = Shape(header, 20 if plain[0] >> 4 == 4 else 40, pad)
        columns = layout.runs.get(shape)
        if columns is None:
            columns = layout.runs[shape] = RunLayout(layout, shape)
        assert isinstance(columns, RunLayout)
        return columns if columns.endings[:count].tobytes() == columns.ending * count else None

    @staticmethod
    def _first_header(columns: RunLayout, train: OpenedTrain, begin: int, end: int, outer_tos: int) -> bytes:
        """The headers of a run's first packet; empty if the run is not one for vectorised delivery."""
        if end - begin < 2:
            return b""
        header, tcp, _ = columns.shape
        at = begin * columns.row_length
        packet = train.plain[at : at + columns.packet_length]
        if packet[0] >> 4 != (4 if tcp == 20 else 6) or tcp_header_length(packet) != header:
            return b""
        first = bytes(packet[:header])
        if (tcp == 20 and not first[6] & _DF) or not is_unchanged(tos_of(first), outer_tos):
            return b""
        return first

    def _deliver_run(
        self, sa: InboundSa, train: OpenedTrain, columns: RunLayout, first: bytes, begin: int, end: int
    ) -> None:
        count = end - begin
        if not sa.selectors.allows(first):
            self._drops[DropReason.SELECTOR] += count
            return
        sa.packets += count
        sa.octets += count * columns.packet_length
        tcp = columns.shape.tcp
        length, plain = columns.row_length, train.plain
        flags = first[tcp + 13] | plain[(end - 1) * length + tcp + 13]
        self._merger.add_run(first, columns.payloads[begin:end], flags, int.from_bytes(first[tcp + 4 : tcp + 8], "big"))

    def _one_at_a_time(self, sa: InboundSa, train: OpenedTrain, begin: int, end: int, outer_tos: int) -> None:
        length = train.layout.plain_length
        for at in range(begin * length, end * length, length):
            try:
                inner = sa.accept(bytes(train.plain[at : at + length]), outer_tos)
            except PacketDroppedError as dropped:
                self._drops[dropped.reason] += 1
            else:
                self._merger.add(inner)
