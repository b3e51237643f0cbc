"""What the vectorised forms of sealing have in common: rows of plaintexts become numbered ESP packets (AEAD ciphers, numpy)."""

import numpy as np

from warren_ikev2.dataplane.layout import ROW_NUMBERS, Numbers, TrainBuffers, TrainLayout, capacity_of, trailer_sum
from warren_ikev2.dataplane.trains import ENDINGS, HEAD, TAG
from warren_ikev2.esp.sa import OutboundSa
from warren_ikev2.esp.transforms import AeadTransform

_LOW = 0xFFFFFFFF


class SendLayout(TrainLayout):
    """The rows of packets of `length` bytes and one IP version."""

    def __init__(self, buffers: TrainBuffers, length: int, version: int, *, esn: bool) -> None:
        self.ending = ENDINGS[version][-(length + 2) % 4]
        stride = HEAD + length + len(self.ending) + TAG
        super().__init__(buffers, stride, capacity_of(stride), esn=esn, sealing=True)
        self.trailer = trailer_sum(length, self.ending)
        self.ending_row = np.frombuffer(self.ending, np.uint8)
        self.endings = self.plain8[:, length:]


class SendRows:
    """The columns of the first `count` rows of a layout that number its packets."""

    def __init__(self, layout: SendLayout, buffers: TrainBuffers, count: int) -> None:
        self.count = count
        self.row_numbers = ROW_NUMBERS[:count]
        self.scratch: Numbers = np.empty(count, np.uint32)
        self.column = self.scratch[:, np.newaxis]
        self.numbers = layout.numbers[:count]
        self.nonce_numbers = buffers.nonces[:count, 2]
        self.sums: Numbers = np.empty(count, np.uint64)
        self.arguments = layout.rows[:count]
        self.train = buffers.packets_view[: count * layout.stride]


def number_rows(
    buffers: TrainBuffers, layout: SendLayout, rows: SendRows, sa: OutboundSa, transform: AeadTransform, length: int
) -> None:
    """Write all of the packets that is not encrypted, and the trailers; `length` is that of each inner packet."""
    count = rows.count
    sequence = sa.reserve(count, count * length)
    wraps = (sequence & _LOW) + count > _LOW
    _write_constants(buffers, layout, sa, transform, None if wraps else sequence >> 32)
    if not wraps:
        rows.nonce_numbers[...] = np.add(rows.row_numbers, sequence & _LOW, rows.scratch)
        rows.numbers[...] = rows.column
    else:  # the low half wraps within the train
        wide = np.arange(sequence, sequence + count, dtype=np.uint64)
        low, high = (wide & np.uint64(_LOW)).astype(np.uint32), (wide >> np.uint64(32)).astype(np.uint32)
        layout.sequence[:count] = layout.iv[:count, 1] = rows.nonce_numbers[...] = low
        layout.iv[:count, 0] = buffers.nonces[:count, 1] = high
    if transform.esn:
        buffers.associated[:count, 1:] = buffers.nonces[:count, 1:]


def encrypt_rows(rows: SendRows, transform: AeadTransform) -> None:
    """Encrypt the packets that `number_rows` has numbered."""
    encrypt = transform.cipher.encrypt_into
    for arguments in rows.arguments:
        encrypt(*arguments)


def _write_constants(
    buffers: TrainBuffers, layout: SendLayout, sa: OutboundSa, transform: AeadTransform, high: int | None
) -> None:
    """The columns that depend only on the layout, the SA and the high half of the sequence numbers (None: it changes)."""
    owner = (layout, sa, high)
    if buffers.owner is not None and buffers.owner == owner:
        return
    buffers.owner = owner
    layout.spi[:] = sa.spi
    layout.endings[:] = layout.ending_row
    buffers.nonces[:, 0] = int.from_bytes(transform.salt, "big")
    buffers.associated[:, 0] = sa.spi
    if high is not None:
        layout.iv[:, 0] = buffers.nonces[:, 1] = high
