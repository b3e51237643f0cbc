"""The batched way in, first half: a train of equal ESP packets is opened at once (AEAD ciphers, numpy).

The train must be what a batching sender makes: one SA, consecutive sequence numbers, all right of the replay window's top,
all authentic. Nothing of the SA changes until that is certain. For every other train `open` returns `None`, and the
scalar path opens its packets one at a time.
"""

from typing import Any, NamedTuple

import numpy as np
from cryptography.exceptions import InvalidTag

from warren_ikev2.dataplane.layout import ROW_NUMBERS, Cache, Numbers, TrainBuffers, TrainLayout, capacity_of
from warren_ikev2.dataplane.trains import (
    MAX_SEGMENTS,
    MAX_TRAIN,
    RECEIVE_BYTES,
    RECEIVE_ROWS,
    first_sequence,
    may_be_opened,
)
from warren_ikev2.esp.sa import InboundSa
from warren_ikev2.esp.transforms import AeadTransform

COUNTS_KEPT = 8
"""Numbers of packets whose views are kept: with several trains at once, they vary."""


class OpenedTrain(NamedTuple):
    """The plaintexts of a train, with their trailers, as rows; valid until the next train is opened."""

    layout: "ReceiveLayout"
    plain: memoryview
    packets: int


class ReceiveLayout(TrainLayout):
    """The rows of a train of packets with `stride` bytes."""

    def __init__(self, buffers: TrainBuffers, stride: int, capacity: int, esn: bool) -> None:
        super().__init__(buffers, stride, capacity, esn=esn, sealing=False)
        self._buffers = buffers
        self._first: dict[int, ReceiveRows] = {}
        self.runs: dict[tuple[int, int, int], object] = {}
        """Of `runs`: what depends on the inner packets' shape as well."""
        self.flows: dict[tuple[int, int, int], Any] = {}
        """Of `runs`: what depends on the inner packets' flow as well."""

    def first(self, count: int) -> "ReceiveRows":
        """The first `count` rows."""
        rows = self._first.get(count)
        if rows is None:
            if len(self._first) == COUNTS_KEPT:
                self._first.clear()
            rows = self._first[count] = ReceiveRows(self, self._buffers, count)
        return rows


class ReceiveRows:
    """The columns of the first `count` rows of a layout."""

    def __init__(self, layout: ReceiveLayout, buffers: TrainBuffers, count: int) -> None:
        self.count = count
        self.numbers = ROW_NUMBERS[:count]
        self.sequence = layout.sequence[:count]
        self.starts: Numbers = np.empty(count, np.uint32)
        self.iv = layout.iv[:count]
        self.nonce_iv = buffers.nonces[:count, 1:]
        self.arguments = layout.rows[:count]


class TrainOpener:
    """Opens trains. One for a process; `packets` is the buffer that the socket receives into."""

    most_rows, most_bytes = RECEIVE_ROWS, RECEIVE_BYTES

    def __init__(self, packets: bytearray) -> None:
        self._buffers = TrainBuffers(packets, RECEIVE_ROWS, RECEIVE_BYTES)
        self._layouts = Cache(self._make)

    def _make(self, stride: int, esn: bool, several: bool) -> ReceiveLayout:
        limits = (RECEIVE_ROWS, RECEIVE_BYTES) if several else (MAX_SEGMENTS, MAX_TRAIN)
        return ReceiveLayout(self._buffers, stride, capacity_of(stride, *limits), esn)

    def open(self, sa: InboundSa, stride: int, count: int) -> OpenedTrain | None:
        """Open `count` packets from the start of the buffer; `None` if the scalar path is to do it."""
        transform = may_be_opened(sa, stride, count, RECEIVE_ROWS, RECEIVE_BYTES)
        if transform is None:
            return None
        several = count > MAX_SEGMENTS or count * stride > MAX_TRAIN
        layout = self._layouts.get(stride, transform.esn, several)
        rows = layout.first(count)
        first = self._first_sequence(sa, rows)
        if first is None:
            return None
        self._prepare(sa, transform, layout, rows, first)
        decrypt = transform.cipher.decrypt_into
        try:
            for arguments in rows.arguments:
                decrypt(*arguments)
        except InvalidTag:
            return None
        sa.replay.update_run(first, count)
        return OpenedTrain(layout, self._buffers.plain_view, count)

    @staticmethod
    def _first_sequence(sa: InboundSa, rows: ReceiveRows) -> int | None:
        """The first packet's number, if the others follow it and all are new."""
        np.subtract(rows.sequence, rows.numbers, rows.starts)
        starts = rows.starts.tobytes()
        if starts != starts[:4] * rows.count:
            return None
        return first_sequence(sa, int.from_bytes(starts[:4], "little"), rows.count)

    def _prepare(
        self, sa: InboundSa, transform: AeadTransform, layout: ReceiveLayout, rows: ReceiveRows, first: int
    ) -> None:
        buffers, count = self._buffers, rows.count
        if buffers.owner is not sa:
            buffers.owner = sa
            buffers.nonces[:, 0] = int.from_bytes(transform.salt, "big")
        rows.nonce_iv[...] = rows.iv
        if transform.esn:
            buffers.associated[:count, 0] = layout.spi[:count]
            buffers.associated[:count, 1] = first >> 32
            buffers.associated[:count, 2] = rows.sequence
