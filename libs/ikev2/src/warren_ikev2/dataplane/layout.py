"""numpy layouts: how a train of equal packets lies in memory, and the views on it.

A train is a row of equally long ESP packets, one after the other, as UDP_SEGMENT sends and UDP_GRO receives them:

    | SPI 4 | sequence 4 | IV 8 | ciphertext | tag 16 |   repeated `count` times

and the plaintexts of its packets stand in a second buffer in the same way:

    | IP and TCP headers | payload | padding, pad length, next header |   each a multiple of 4 bytes

Column views of such a buffer reach one field of all packets at once, and one `memoryview` for each argument of each packet's
`encrypt_into` saves slicing. Making them costs far more than using them, so layouts are cached by what determines them, and
the views on the first `count` rows are kept for as long as trains have as many packets.
All layouts of a direction share the same buffers: at any time one train is under way.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from warren_ikev2.dataplane.trains import HEAD, MAX_SEGMENTS, MAX_TRAIN, RECEIVE_ROWS, TAG

Bytes = NDArray[np.uint8]
Numbers = NDArray[Any]
"""A view of 16- or 32-bit words; on wire fields in big endian."""

_CACHED = 32
"""Layouts of each kind: about 60 kB each, 200 kB for several trains at once. Traffic has a few sizes at a time."""
LayoutT = TypeVar("LayoutT")


class Cache(Generic[LayoutT]):
    """The layouts used last."""

    def __init__(self, make: Callable[..., LayoutT], limit: int = _CACHED) -> None:
        self._make = make
        self._limit = limit
        self._known: OrderedDict[Hashable, LayoutT] = OrderedDict()
        self._last_key: Hashable = None
        self._last: LayoutT | None = None

    def get(self, *key: Any) -> LayoutT:
        """The layout of this key, made if needed."""
        if self._last is None or key != self._last_key:
            self._last_key, self._last = key, self._find(key)
        return self._last

    def _find(self, key: tuple[Any, ...]) -> LayoutT:
        layout = self._known.get(key)
        if layout is None:
            layout = self._known[key] = self._make(*key)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return layout


TrainRow = tuple[memoryview, memoryview, memoryview, memoryview]
"""The arguments of one packet's `encrypt_into` or `decrypt_into`: nonce, source, additional data, target. A plain tuple, since
calling with a named one costs 50 ns more for each packet."""


class TrainBuffers:
    """The buffers of one direction: ESP packets, plaintexts, nonces and, for ESN, additional data."""

    def __init__(self, packets: bytearray, rows: int = MAX_SEGMENTS, size: int = MAX_TRAIN) -> None:
        """`packets` holds the largest train, of `rows` packets and `size` bytes; the caller may receive into it."""
        self.packets: Bytes = np.frombuffer(packets, np.uint8)
        self.plain: Bytes = np.zeros(size + MAX_SEGMENTS, np.uint8)
        self.nonces: Numbers = np.zeros((rows, 3), ">u4")
        self.associated: Numbers = np.zeros((rows, 3), ">u4")
        self.packets_view = memoryview(packets)
        self.plain_view = memoryview(self.plain.data)
        self.owner: object = None
        """Whose constant columns stand in the buffers; they are written again only for another one."""
        self._nonce_rows = [memoryview(row.view(np.uint8).data) for row in self.nonces]
        self._associated_rows = [memoryview(row.view(np.uint8).data) for row in self.associated]

    def rows(self, capacity: int, stride: int, *, esn: bool, sealing: bool) -> list[TrainRow]:
        """The arguments of each packet of a train whose packets have `stride` bytes."""
        packets, plain, length = self.packets_view, self.plain_view, stride - HEAD - TAG
        found = []
        for number in range(capacity):
            at = number * stride
            associated = self._associated_rows[number] if esn else packets[at : at + 8]
            sealed = packets[at + HEAD : at + stride]
            opened = plain[number * length : (number + 1) * length]
            source, target = (opened, sealed) if sealing else (sealed, opened)
            found.append((self._nonce_rows[number], source, associated, target))
        return found


def capacity_of(stride: int, rows: int = MAX_SEGMENTS, size: int = MAX_TRAIN) -> int:
    """How many packets of `stride` bytes one train of at most `rows` packets and `size` bytes holds."""
    return min(rows, size // stride)


class TrainLayout:
    """A train of packets with `stride` bytes, a multiple of 4: the columns of its ESP headers, and its rows."""

    def __init__(self, buffers: TrainBuffers, stride: int, capacity: int, *, esn: bool, sealing: bool) -> None:
        self.stride = stride
        self.plain_length = stride - HEAD - TAG
        self.capacity = count = capacity
        packets = buffers.packets[: count * stride].view(">u4").reshape(count, -1)
        self.spi = packets[:, 0]
        self.sequence = packets[:, 1]
        self.iv = packets[:, 2:4]
        self.plain_view = buffers.plain_view
        self.numbers = packets[:, 1:4:2]
        """Sequence number and low half of the IV, which carries it as well."""
        plain = buffers.plain[: count * self.plain_length]
        self.plain8: Bytes = plain.reshape(count, -1)
        self.plain16: Numbers = plain.view("<u2").reshape(count, -1)
        self.plain16_wire: Numbers = plain.view(">u2").reshape(count, -1)
        self.plain32: Numbers = plain.view("<u4").reshape(count, -1)
        self.plain32_wire: Numbers = plain.view(">u4").reshape(count, -1)
        self.rows = buffers.rows(count, stride, esn=esn, sealing=sealing)


ROW_NUMBERS: Numbers = np.arange(RECEIVE_ROWS, dtype=np.uint32)


def trailer_sum(before: int, ending: bytes) -> int:
    """What the ESP trailer adds to a little-endian row sum if `before` bytes of the row stand in front of it."""
    words = bytes(before % 4) + ending
    return sum(int.from_bytes(words[at : at + 4], "little") for at in range(0, len(words), 4)) % 0xFFFF
