"""The batched way in, second half: the packets of an opened train are split into runs, checked and merged (numpy).

One comparison of each row with the first, or else with the row before, finds where a run ends; sums over the rows verify all
checksums; then each run is one write to the TUN device. Rows that are neither TCP nor UDP, have other trailers or sizes, or need
a changed ECN codepoint, go through `InboundSa.accept` one at a time, in their place in the order.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from warren_ikev2.dataplane.checksum import MODULUS, PROTO_TCP, PROTO_UDP, ipv4_header_is_valid, pseudo_header
from warren_ikev2.dataplane.delivery import Delivery, may_be_run
from warren_ikev2.dataplane.layout import ROW_NUMBERS, Bytes, Numbers, trailer_sum
from warren_ikev2.dataplane.merge import ENDS_RUN, LONGEST_HEADERS, MAX_PACKET, STARTS_RUN, Merger, equal_bits, is_udp
from warren_ikev2.dataplane.open import COUNTS_KEPT, OpenedTrain, ReceiveLayout
from warren_ikev2.dataplane.trains import ENDINGS, MAX_SEGMENTS
from warren_ikev2.esp.drops import DropReason
from warren_ikev2.esp.sa import InboundSa

_MODULUS = np.uint64(MODULUS)


def _any_flag(mask: int) -> re.Pattern[bytes]:
    return re.compile(b"[" + b"".join(re.escape(bytes((flags,))) for flags in range(256) if flags & mask) + b"]")


_ENDS, _STARTS = _any_flag(ENDS_RUN), _any_flag(STARTS_RUN)
"""Find a flag byte that ends or starts a run."""


class Shape(NamedTuple):
    """What all packets of a vectorised run have in common: length of all headers, offset of the transport's, pad length."""

    header: int
    start: int
    pad: int

    @property
    def is_udp(self) -> bool:
        """Whether the packets are UDP datagrams, not TCP segments."""
        return is_udp(self.header, self.start)


class RunLayout:
    """Columns of the inner headers, for one shape in one layout."""

    def __init__(self, layout: ReceiveLayout, shape: Shape) -> None:
        header, start, pad = shape
        self.shape = shape
        self.row_length = layout.plain_length
        self.ending = ENDINGS[4 if start == 20 else 6][pad]
        self.packet_length = layout.plain_length - len(self.ending)
        self.mss = self.packet_length - header
        self.mask: Numbers = np.frombuffer(equal_bits(header, start), "<u4")
        """What must be equal."""
        self.identification = layout.plain16[:, 2:6:3] if start == 20 else None
        """With the header checksum, what may differ in IPv4 headers; many senders keep it (RFC 6864, 4.1)."""
        self.headers = layout.plain32[:, : header // 4]
        self.ip_header = layout.plain32[:, :5] if start == 20 else None
        self.summed = layout.plain32[:, start // 4 :]
        self.endings = layout.plain8[:, self.packet_length :]
        self.trailer = trailer_sum(self.packet_length, self.ending)
        self.most = (MAX_PACKET - header) // self.mss
        """Packets that one packet can stand for."""
        if shape.is_udp:
            self.most = min(self.most, MAX_SEGMENTS)
            self.udp_checksum = layout.plain16[:, start // 2 + 3]
        else:
            self.sequence = layout.plain32_wire[:, start // 4 + 1]
            self.flags: Bytes = layout.plain8[:, start + 13]
            self.steps = ROW_NUMBERS[: layout.capacity] * np.uint32(self.mss)
        self.payloads = [
            layout.plain_view[at + header : at + self.packet_length]
            for at in range(0, layout.capacity * self.row_length, self.row_length)
        ]
        self._first: dict[int, RunRows] = {}

    def first(self, count: int) -> "RunRows":
        """The first `count` rows."""
        rows = self._first.get(count)
        if rows is None:
            if len(self._first) == COUNTS_KEPT:
                self._first.clear()
            rows = self._first[count] = UdpRows(self, count) if self.shape.is_udp else TcpRunRows(self, count)
        return rows

    def expected_sum(self, first: bytes) -> bytes:
        """What `RunRows.sums` gives for a packet with a correct checksum; `first` holds its headers."""
        protocol = PROTO_UDP if self.shape.is_udp else PROTO_TCP
        pseudo = pseudo_header(first, protocol, self.packet_length - self.shape.start) % MODULUS
        little = (pseudo >> 8 | (pseudo & 0xFF) << 8) + MODULUS - self.trailer
        return (-little % MODULUS).to_bytes(8, "little")


class RunRows:
    """The columns of the first `count` rows of a layout."""

    def __init__(self, columns: RunLayout, count: int) -> None:
        self.count = count
        self._columns = columns
        self._headers = columns.headers[:count]
        self._identification = None if columns.identification is None else columns.identification[:count]
        self._masked: Numbers = np.empty(self._headers.shape, "<u4")
        self._summed = columns.summed[:count]
        self._sums: Numbers = np.empty(count, np.uint64)
        self._ip_header = None if columns.ip_header is None else columns.ip_header[:count]
        self._endings = columns.endings[:count]
        self._expected_endings = columns.ending * count

    def have_their_endings(self) -> bool:
        """Whether all rows have the trailer of the shape."""
        return bool(self._endings.tobytes() == self._expected_endings)

    def breaks(self) -> tuple[list[int], bool]:
        """The rows that begin a run, and the count of rows; and whether all IP headers are equal.

        Most trains are one run: equal bytes say so faster than a comparison by rows does.
        """
        count = self.count
        np.bitwise_and(self._headers, self._columns.mask, self._masked)
        equal_headers = _are_equal(self._masked, count)
        starts = self._starts(equal_headers)
        same_ip_header = equal_headers and (self._identification is None or _are_equal(self._identification, count))
        return [0, *sorted(starts), count] if starts else [0, count], same_ip_header

    def _starts(self, equal_headers: bool) -> set[int]:
        """The rows but the first that begin a run."""
        if equal_headers:
            return set()
        masked = self._masked
        return set(((masked[1:] != masked[:-1]).any(1).nonzero()[0] + 1).tolist())

    def sums(self) -> bytes:
        """The sums, modulo 65,535, of the transport headers, payloads and trailers, eight bytes a row."""
        np.add.reduce(self._summed, 1, np.uint64, out=self._sums)
        np.remainder(self._sums, _MODULUS, self._sums)
        return self._sums.tobytes()

    def ip_sums(self) -> bytes:
        """The same of IPv4 headers; empty for IPv6."""
        if self._ip_header is None:
            return b""
        np.add.reduce(self._ip_header, 1, np.uint64, out=self._sums)
        np.remainder(self._sums, _MODULUS, self._sums)
        return self._sums.tobytes()


class TcpRunRows(RunRows):
    """Of TCP segments: sequence numbers and flags decide, too."""

    def __init__(self, columns: RunLayout, count: int) -> None:
        super().__init__(columns, count)
        self._sequence = columns.sequence[:count]
        self._steps = columns.steps[:count]
        self._anchors: Numbers = np.empty(count, np.uint32)
        self._flags = columns.flags[:count]

    def _starts(self, equal_headers: bool) -> set[int]:
        count, flags = self.count, self._flags.tobytes()
        np.subtract(self._sequence, self._steps, self._anchors)
        starts = super()._starts(equal_headers)
        if _ENDS.search(flags, 0, count - 1) or _STARTS.search(flags, 1):
            starts.update(match.end() for match in _ENDS.finditer(flags, 0, count - 1))
            starts.update(match.start() for match in _STARTS.finditer(flags, 1))
        if not _are_equal(self._anchors, count):
            anchors = self._anchors
            starts.update(((anchors[1:] != anchors[:-1]).nonzero()[0] + 1).tolist())
        return starts


class UdpRows(RunRows):
    """Of UDP datagrams."""

    def __init__(self, columns: RunLayout, count: int) -> None:
        super().__init__(columns, count)
        self._checksums = columns.udp_checksum[:count]

    def sums(self) -> bytes:
        """As for TCP; a sum that is never right where there is no checksum."""
        sums = super().sums()
        if self._checksums.all():
            return sums
        self._sums[self._checksums == 0] = _MODULUS
        return self._sums.tobytes()


def _are_equal(rows: Numbers, count: int) -> bool:
    """Whether all `count` rows hold the same bytes."""
    data = rows.tobytes()
    return bool(data == data[: len(data) // count] * count)


class RunMerger:
    """Delivers opened trains to `merger`, whose caller flushes it before the next train is opened."""

    def __init__(self, merger: Merger, drops: Counter[DropReason]) -> None:
        self._header_length = merger.header_length
        self._delivery = Delivery(merger, drops)

    def deliver(self, sa: InboundSa, train: OpenedTrain, outer_tos: int) -> None:
        """Deliver all packets of a train in order; what is dropped is counted."""
        layout, plain, packets = train
        flow = self._flow(layout, 0, outer_tos)
        columns = flow.columns if flow is not None else None
        rows = columns.first(packets) if columns is not None else None
        if columns is None or rows is None or not rows.have_their_endings():
            self._delivery.one_at_a_time(sa, _plaintexts(train, 0, packets), outer_tos)
            return
        starts, same_ip_header = rows.breaks()
        if len(starts) > packets // _SHORT_RUN + 2:
            self._delivery.one_at_a_time(sa, _plaintexts(train, 0, packets), outer_tos)
            return
        sums = rows.sums()
        ip_sums = b"" if same_ip_header else rows.ip_sums()
        (header, start, _), is_tcp = columns.shape, not columns.shape.is_udp
        flag_at, length = start + 13, columns.row_length
        for begin, end in _pieces(starts, columns.most) if packets > columns.most else pairwise(starts):
            if begin:
                flow = self._flow(layout, begin, outer_tos)
            first = bytes(plain[begin * length : begin * length + header])
            if (
                flow is not None
                and flow.columns is columns
                and flow.may_be_run
                and end - begin > 1
                and sums[8 * begin : 8 * end] == flow.expected_sum * (end - begin)
                and not ip_sums[8 * begin : 8 * end].strip(b"\0")
                and (not same_ip_header or start != 20 or ipv4_header_is_valid(first))
            ):
                flags = first[flag_at] | plain[(end - 1) * length + flag_at] if is_tcp else 0
                self._delivery.run(sa, first, columns.payloads[begin:end], flags)
            else:
                self._delivery.one_at_a_time(sa, _plaintexts(train, begin, end), outer_tos)

    def _flow(self, layout: ReceiveLayout, row: int, outer_tos: int) -> "Flow | None":
        """What a row has in common with its flow; `None` if it is neither TCP nor UDP that may be merged."""
        at, length = row * layout.plain_length, layout.plain_length
        head, pad = bytes(layout.plain_view[at : at + LONGEST_HEADERS]), layout.plain_view[at + length - 2]
        mask = _DECISIVE.get(head[0] >> 4 << 8 | (head[9] if head[0] < 0x50 else head[6]))
        if mask is None or pad > 3:
            return None
        key = int.from_bytes(head, "little") & mask, pad, outer_tos
        flow = layout.flows.get(key)
        if flow is None:
            if len(layout.flows) == _FLOWS:
                layout.flows.clear()
            flow = layout.flows[key] = self._make_flow(layout, head, pad, outer_tos)
        return flow

    def _make_flow(self, layout: ReceiveLayout, head: bytes, pad: int, outer_tos: int) -> "Flow":
        header = self._header_length(head, layout.plain_length - 2 - pad)
        if not header:
            return _NO_FLOW
        shape = Shape(header, 20 if head[0] >> 4 == 4 else 40, pad)
        columns = layout.runs.get(shape)
        if columns is None:
            columns = layout.runs[shape] = RunLayout(layout, shape)
        assert isinstance(columns, RunLayout)
        first = head[:header]
        return Flow(columns, columns.expected_sum(first), may_be_run(first, outer_tos))


class Flow(NamedTuple):
    """What the decisive bytes of a packet's headers say, for one outer TOS byte."""

    columns: RunLayout | None
    """`None`: it may not be merged."""
    expected_sum: bytes
    may_be_run: bool


_NO_FLOW = Flow(None, b"", False)
_SHORT_RUN = 3
"""Packets: where runs are shorter than that, as between flows of datagrams, one at a time costs less."""
_FLOWS = 64
"""Of a layout that are remembered: traffic of one packet size has a few at a time."""


def _decisive(*ranges: tuple[int, int]) -> int:
    """A mask of byte ranges, for a number in little endian."""
    return sum((1 << 8 * end) - (1 << 8 * begin) for begin, end in ranges)


_DECISIVE = {
    # version, TOS byte, length; fragment, TTL and protocol; addresses and ports, and UDP's length; TCP's data offset and flags
    4 << 8 | PROTO_TCP: _decisive((0, 4), (6, 10), (12, 24), (32, 34)),
    4 << 8 | PROTO_UDP: _decisive((0, 4), (6, 10), (12, 26)),
    6 << 8 | PROTO_TCP: _decisive((0, 44), (52, 54)),
    6 << 8 | PROTO_UDP: _decisive((0, 46)),
}
"""IP version and protocol -> what `header_length`, the sum and `may_be_run` depend on, but for a UDP checksum of zero."""


def _pieces(starts: list[int], most: int) -> Iterator[tuple[int, int]]:
    """The runs, cut into pieces of at most `most` packets."""
    for begin, end in pairwise(starts):
        for at in range(begin, end, most):
            yield at, min(at + most, end)


def _plaintexts(train: OpenedTrain, begin: int, end: int) -> Iterator[bytes]:
    length = train.layout.plain_length
    for at in range(begin * length, end * length, length):
        yield bytes(train.plain[at : at + length])
