"""The batched way in, first half: a train of equal ESP packets is opened at once (AEAD ciphers, numpy).

The train must be what a batching sender makes: one SA, consecutive sequence numbers, all right of the replay window's top,
all authentic. Nothing of the SA changes until that is certain. For every other train `open` returns `None`, and the
scalar path opens its packets one at a time.
"""

from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from warren_ikev2.dataplane.layout import (
    HEAD,
    MAX_SEGMENTS,
    ROW_NUMBERS,
    TAG,
    Cache,
    Numbers,
    TrainBuffers,
    TrainLayout,
)
from warren_ikev2.esp.sa import InboundSa
from warren_ikev2.esp.transforms import AeadTransform

_LOW = 0xFFFFFFFF
_SMALLEST_STRIDE = HEAD + 48 + TAG
"""Bytes: an ESP packet with less carries no TCP segment with payload; a row a packet costs more than it saves."""


class OpenedTrain(NamedTuple):
    """The plaintexts of a train, with their trailers, as rows; valid until the next train is opened."""

    layout: "ReceiveLayout"
    plain: memoryview
    packets: int


class ReceiveLayout(TrainLayout):
    """The rows of a train of packets with `stride` bytes."""

    def __init__(self, buffers: TrainBuffers, stride: int, esn: bool) -> None:
        super().__init__(buffers, stride, esn=esn, sealing=False)
        self.runs: dict[tuple[int, int, int], object] = {}
        """Of `runs`: what depends on the inner packets' shape as well."""


class TrainOpener:
    """Opens trains. One for a process; `packets` is the buffer that the socket receives into."""

    def __init__(self, packets: bytearray) -> None:
        self._buffers = TrainBuffers(packets)
        self._layouts = Cache(self._make)

    def _make(self, stride: int, esn: bool) -> ReceiveLayout:
        return ReceiveLayout(self._buffers, stride, esn)

    def open(self, sa: InboundSa, stride: int, count: int) -> OpenedTrain | None:
        """Open `count` packets from the start of the buffer; `None` if the scalar path is to do it."""
        transform = sa.transform
        if not isinstance(transform, AeadTransform) or stride & 3 or not stride >= _SMALLEST_STRIDE:
            return None
        if not 2 <= count <= min(MAX_SEGMENTS, sa.replay.size):
            return None
        layout = self._layouts.get(stride, transform.esn)
        if count > layout.capacity:
            return None
        first = self._first_sequence(sa, layout, count)
        if first is None:
            return None
        self._prepare(sa, transform, layout, count, first)
        decrypt = transform.cipher.decrypt_into
        try:
            for nonce, source, associated, target in layout.rows[:count]:
                decrypt(nonce, source, associated, target)
        except InvalidTag:
            return None
        sa.replay.update_run(first, count)
        return OpenedTrain(layout, self._buffers.plain_view, count)

    @staticmethod
    def _first_sequence(sa: InboundSa, layout: ReceiveLayout, count: int) -> int | None:
        """The first packet's number, if the others follow it and all are new."""
        starts: Numbers = layout.sequence[:count] - ROW_NUMBERS[:count]
        low = int(starts[0])
        if low + count > _LOW or starts.tobytes() != starts[:1].tobytes() * count:
            return None
        first = sa.replay.infer(low)
        return first if first > sa.replay.top and sa.replay.infer(low + count - 1) == first + count - 1 else None

    def _prepare(self, sa: InboundSa, transform: AeadTransform, layout: ReceiveLayout, count: int, first: int) -> None:
        buffers = self._buffers
        if buffers.owner is not sa:
            buffers.owner = sa
            buffers.nonces[:, 0] = int.from_bytes(transform.salt, "big")
        buffers.nonces[:count, 1:] = layout.iv[:count]
        if transform.esn:
            buffers.associated[:count, 0] = layout.spi[:count]
            buffers.associated[:count, 1] = first >> 32
            buffers.associated[:count, 2] = layout.sequence[:count]
