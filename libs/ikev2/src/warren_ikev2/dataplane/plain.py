"""The batched way in without numpy: a train that is one run of TCP segments, or of UDP datagrams, is opened and merged at once (AEAD
ciphers).

`struct` takes one field of all packets out of the buffer with one call, tuples compare in C, and all headers are one number that
is compared with itself a packet further on, so most checks cost one call a train. The checksums cost the most: `int.from_bytes`
makes one number of a segment, which is folded (see `checksum`). A train that is not exactly one run is delivered one packet at a
time.
"""

import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from warren_ikev2.dataplane.checksum import (
    MODULUS,
    PROTO_TCP,
    PROTO_UDP,
    fold_widths,
    ones_complement_sum,
    pseudo_header,
)
from warren_ikev2.dataplane.delivery import Delivery, may_be_run
from warren_ikev2.dataplane.merge import ENDS_RUN, LONGEST_HEADERS, STARTS_RUN, Merger, equal_bits, is_udp
from warren_ikev2.dataplane.trains import ENDINGS, HEAD, MAX_SEGMENTS, MAX_TRAIN, TAG, first_sequence, may_be_opened
from warren_ikev2.esp.drops import DropReason
from warren_ikev2.esp.sa import InboundSa

_LAYOUTS = 16
"""Kept: about 40 kB each. Traffic has a few sizes at a time."""
_LOW, _CYCLE = 0xFFFFFFFF, 1 << 32


class Layout:
    """`count` packets of `stride` bytes in the receive buffer, and their plaintexts: views and fields."""

    def __init__(self, packets: memoryview, plain: memoryview, stride: int, count: int) -> None:
        self.plain = plain
        self.plain_length = length = stride - HEAD - TAG
        self.count = count
        starts = range(0, count * stride, stride)
        self.headers = struct.Struct(">" + f"Q{stride - 8}x" * count).unpack_from
        """SPI and sequence number of each packet as one number."""
        self.ivs = struct.Struct(f"8x8s{stride - 16}x" * count).unpack_from
        self.sealed = [packets[at + HEAD : at + stride] for at in starts]
        self.associated = [packets[at : at + 8] for at in starts]
        self.opened = [plain[at : at + length] for at in range(0, count * length, length)]
        self.runs: dict[tuple[int, int, int], Run] = {}

    def plaintexts(self) -> Iterator[bytes]:
        """All plaintexts, with their trailers."""
        return map(bytes, self.opened)


class Run(ABC):
    """The fields of the packets of one run: all headers have `header` bytes, the transport's starts at `start`, `pad` bytes are
    padding.
    """

    protocol = PROTO_TCP

    def __init__(self, layout: Layout, header: int, start: int, pad: int) -> None:
        length, count, plain = layout.plain_length, layout.count, layout.plain
        self._count = count
        self._start, self._plain = start, plain
        self._ending = ending = ENDINGS[4 if start == 20 else 6][pad]
        self.packet_length = length - len(ending)
        self._mss = self.packet_length - header
        row = self._row(header, start) + f"{self._mss}x{len(ending)}s"
        self._fields = struct.Struct(">" + row * count).unpack_from
        self._headers = [plain[at : at + header] for at in range(0, count * length, length)]
        self._header_bits = 8 * header
        self._equal_bits = int.from_bytes(equal_bits(header, start) * (count - 1), "little")
        self.payloads = [plain[at + header : at + self.packet_length] for at in range(0, count * length, length)]
        segment = length - start
        middle = start + segment // 4 * 2
        self._halves = [
            (plain[at + start : at + middle], plain[at + middle : at + length])
            for at in range(0, count * length, length)
        ]
        self._folds = fold_widths(8 * (length - middle) + 16)

    @staticmethod
    @abstractmethod
    def _row(header: int, start: int) -> str:
        """The headers as `struct` fields: only what may differ."""

    @abstractmethod
    def flags(self, first: bytes) -> int | None:
        """The TCP flags of all packets together, 0 for UDP, if they are one run, with correct checksums, whose first headers are
        `first`.
        """

    def _are_alike(self, endings: tuple[bytes, ...]) -> bool:
        """Whether all packets have the trailer, and equal headers but for what may differ."""
        if endings.count(self._ending) != self._count:
            return False
        headers = int.from_bytes(b"".join(self._headers), "little")
        return not (headers ^ headers >> self._header_bits) & self._equal_bits

    def _segments_are_valid(self, first: bytes) -> bool:
        """Whether all transport checksums match. The sums include the trailer, so that every row has whole words."""
        start = self._start
        pseudo = pseudo_header(first, self.protocol, self.packet_length - start)
        odd = (self.packet_length - start) & 1
        trailer = ones_complement_sum(bytes(odd) + self._ending)
        expected = (trailer - pseudo) % MODULUS
        expected = expected >> 8 | (expected & 0xFF) << 8  # little endian is the faster one to read
        number_of, folds = int.from_bytes, self._folds
        for upper, lower in self._halves:
            number = number_of(upper, "little") + number_of(lower, "little")
            for bits, mask in folds:
                number = (number >> bits) + (number & mask)
            if number % MODULUS != expected:
                return False
        return True


class TcpRun(Run):
    """The fields of TCP segments."""

    @staticmethod
    def _row(header: int, start: int) -> str:
        # sequence number and flags; before them IPv4's identification and checksum
        return ("4xH4xH12x" if start == 20 else "44x") + f"I5xB{header - start - 14}x"

    def flags(self, first: bytes) -> int | None:
        """See `Run.flags`."""
        v4, count = self._start == 20, self._count
        width = 5 if v4 else 3
        fields = self._fields(self._plain)
        if not self._are_alike(fields[width - 1 :: width]):
            return None
        sequence, flags = fields[width - 3 :: width], fields[width - 2 :: width]
        end = sequence[0] + count * self._mss
        if end > _CYCLE or sequence != tuple(range(sequence[0], end, self._mss)):
            return None
        begins, ends = flags[0], flags[-1]
        if begins & (ENDS_RUN | STARTS_RUN) or ends & ~ENDS_RUN != begins or flags[:-1].count(begins) != count - 1:
            return None
        if v4 and not _ip_headers_are_valid(first, fields[0::width], fields[1::width]):
            return None
        return begins | ends if self._segments_are_valid(first) else None


class UdpRun(Run):
    """The fields of UDP datagrams."""

    protocol = PROTO_UDP

    @staticmethod
    def _row(header: int, start: int) -> str:
        # the checksum; before it IPv4's identification and checksum
        return "4xH4xH14xH" if start == 20 else f"{header - 2}xH"

    def flags(self, first: bytes) -> int | None:
        """See `Run.flags`."""
        v4 = self._start == 20
        width = 4 if v4 else 2
        fields = self._fields(self._plain)
        if not self._are_alike(fields[width - 1 :: width]) or 0 in fields[width - 2 :: width]:
            return None  # zero: a datagram without a checksum
        if v4 and not _ip_headers_are_valid(first, fields[0::width], fields[1::width]):
            return None
        return 0 if self._segments_are_valid(first) else None


def _ip_headers_are_valid(first: bytes, identifications: tuple[int, ...], checksums: tuple[int, ...]) -> bool:
    """Whether all IPv4 header checksums match; the headers differ in these two fields only."""
    own, other = identifications[0], checksums[0]
    rest = ones_complement_sum(first[:20]) - own - other
    if identifications.count(own) == checksums.count(other) == len(checksums):
        return (rest + own + other) % MODULUS == 0
    return all((rest + one + two) % MODULUS == 0 for one, two in zip(identifications, checksums, strict=True))


class PlainTrain(NamedTuple):
    """An opened train; its plaintexts are valid until the next one is opened."""

    layout: Layout


class PlainOpener:
    """Opens trains. One for a process; `packets` is the buffer that the socket receives into."""

    most_rows, most_bytes = MAX_SEGMENTS, MAX_TRAIN

    def __init__(self, packets: bytearray) -> None:
        self._packets = memoryview(packets)
        self._plain = memoryview(bytearray(MAX_TRAIN))
        self._layout = lru_cache(_LAYOUTS)(self._make)

    def _make(self, stride: int, count: int) -> Layout:
        return Layout(self._packets, self._plain, stride, count)

    def open(self, sa: InboundSa, stride: int, count: int) -> PlainTrain | None:
        """Open `count` packets from the start of the buffer; `None` if the scalar path is to do it."""
        transform = may_be_opened(sa, stride, count)
        if transform is None:
            return None
        layout = self._layout(stride, count)
        headers = layout.headers(self._packets)
        low = headers[0] & _LOW
        first = first_sequence(sa, low, count)
        if first is None or headers != tuple(range(headers[0], headers[0] + count)):
            return None
        associated: Sequence[bytes | memoryview] = layout.associated
        if transform.esn:
            start = sa.spi << 64 | first
            associated = [number.to_bytes(12, "big") for number in range(start, start + count)]
        salt, decrypt = transform.salt, transform.cipher.decrypt_into
        try:
            for iv, sealed, data, opened in zip(
                layout.ivs(self._packets), layout.sealed, associated, layout.opened, strict=True
            ):
                decrypt(salt + iv, sealed, data, opened)
        except InvalidTag:
            return None
        sa.replay.update_run(first, count)
        return PlainTrain(layout)


class PlainMerger:
    """Delivers opened trains to `merger`, whose caller flushes it before the next train is opened."""

    def __init__(self, merger: Merger, drops: Counter[DropReason]) -> None:
        self._header_length = merger.header_length
        self._delivery = Delivery(merger, drops)

    def deliver(self, sa: InboundSa, train: PlainTrain, outer_tos: int) -> None:
        """Deliver all packets of a train in order; what is dropped is counted."""
        layout = train.layout
        plain, length = layout.plain, layout.plain_length
        pad = plain[length - 2]
        start = bytes(plain[: min(length, LONGEST_HEADERS)])
        header = self._header_length(start, length - 2 - pad) if pad <= 3 else 0
        first = start[:header]
        if header and may_be_run(first, outer_tos):
            shape = header, 20 if first[0] == 0x45 else 40, pad
            run = layout.runs.get(shape)
            if run is None:
                kind = UdpRun if is_udp(header, shape[1]) else TcpRun
                run = layout.runs[shape] = kind(layout, *shape)
            flags = run.flags(first)
            if flags is not None:
                self._delivery.run(sa, first, run.payloads, flags)
                return
        self._delivery.one_at_a_time(sa, layout.plaintexts(), outer_tos)
