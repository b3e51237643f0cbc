"""Packets of one size are sealed as rows: their checksums completed by one sum over the rows, then as a train (AEAD ciphers, numpy)."""

import numpy as np

from warren_ikev2.dataplane.checksum import MODULUS, Partial, completed
from warren_ikev2.dataplane.layout import Cache, TrainBuffers
from warren_ikev2.dataplane.rows import SendLayout, SendRows, encrypt_rows, number_rows
from warren_ikev2.dataplane.trains import Train
from warren_ikev2.esp.sa import OutboundSa
from warren_ikev2.esp.transforms import AeadTransform

FEWEST = 8
"""Packets: the rows cost more than they save for fewer."""
_MODULUS = np.uint64(MODULUS)
_UDP_OFFSET = 6


class PacketLayout(SendLayout):
    """The rows of packets of one length and IP version, whose checksums are to be completed in the same place, if at all."""

    def __init__(self, buffers: TrainBuffers, length: int, version: int, esn: bool, partial: Partial | None) -> None:
        super().__init__(buffers, length, version, esn=esn)
        self.packets = self.plain8[:, :length]
        if partial is not None:
            start, offset = partial
            self.summed = self.plain32[:, start // 4 :]
            self.checksum = self.plain16[:, (start + offset) // 2]
            # the complement of zero is zero, but UDP's is 0xFFFF: zero means that there is none (RFC 768)
            self.largest = np.uint64(MODULUS if offset == _UDP_OFFSET else MODULUS - 1)
            self.correction = np.uint64(int(self.largest) - self.trailer)
        self._buffers = buffers
        self._first = SendRows(self, buffers, self.capacity)

    def first(self, count: int) -> SendRows:
        """The first `count` rows."""
        if count != self._first.count:
            self._first = SendRows(self, self._buffers, count)
        return self._first


class PacketSealer:
    """Seals packets of one size. The buffers are shared by all SAs."""

    def __init__(self, buffers: TrainBuffers) -> None:
        self._buffers = buffers
        self._layouts = Cache(self._make)

    def _make(self, length: int, version: int, esn: bool, partial: Partial | None) -> PacketLayout:
        return PacketLayout(self._buffers, length, version, esn, partial)

    @staticmethod
    def takes(sa: OutboundSa, packets: list[bytes], partial: Partial | None) -> bool:
        """Whether `seal` can serve these packets: an AEAD cipher, enough of them and of sequence numbers, fields that make columns."""
        return (
            len(packets) >= FEWEST
            and isinstance(sa.transform, AeadTransform)
            and sa.remaining >= len(packets)
            and (partial is None or not (partial[0] & 3 or partial[1] & 1))
        )

    def seal(self, sa: OutboundSa, packets: list[bytes], partial: Partial | None) -> Train:
        """See `pending.Sealer`."""
        transform = sa.transform
        assert isinstance(transform, AeadTransform)
        length = len(packets[0])
        tail = packets.pop() if len(packets[-1]) != length else None
        count = len(packets)
        layout = self._layouts.get(length, packets[0][0] >> 4, transform.esn, partial)
        rows = layout.first(count)
        layout.packets[:count] = np.frombuffer(b"".join(packets), np.uint8).reshape(count, length)
        number_rows(self._buffers, layout, rows, sa, transform, length)
        if partial is not None:
            self._complete(layout, rows)
        encrypt_rows(rows, transform)
        if tail is None:
            return Train((rows.train,), layout.stride, count)
        whole = tail if partial is None else completed(tail, partial)
        return Train((rows.train, sa.seal(whole)), layout.stride, count + 1)

    @staticmethod
    def _complete(layout: PacketLayout, rows: SendRows) -> None:
        """Write the complement of each row's sum without its trailer; the field is part of the sum (NEEDS_CSUM)."""
        count, sums = rows.count, rows.sums
        np.add.reduce(layout.summed[:count], 1, np.uint64, out=sums)
        np.add(sums, layout.correction, sums)
        np.remainder(sums, _MODULUS, sums)
        layout.checksum[:count] = np.subtract(layout.largest, sums, sums)
