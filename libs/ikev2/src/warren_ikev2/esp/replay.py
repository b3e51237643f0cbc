"""The anti-replay window (RFC 4303, 3.4.3) and Extended Sequence Numbers (appendix A2).

The window is a ring with one slot for each sequence number modulo its size; a slot remembers the last number accepted
in it. A number is new when it lies right of the top, or inside the window with another number in its slot. Nothing has
to be shifted or cleared when the top moves, because a slot left behind holds a number that can no longer be asked for.
"""

from array import array

from warren_ikev2.esp.drops import DropReason, PacketDroppedError

MIN_WINDOW = 64
"""Packets. RFC 4303 recommends 64 as the default and allows 32; NIST SP 800-77r1 asks for at least 64."""
DEFAULT_WINDOW = 1024
"""Packets. Batched senders and several queues reorder by hundreds; 8 bytes a slot makes this 8 kB an SA."""
_LOW = 0xFFFFFFFF
_CYCLE = 1 << 32


class ReplayWindow:
    """Accepts each sequence number of one inbound SA once.

    `size` is in packets and a power of two of at least 64. `infer` turns the 32 bits of the wire into the full number,
    `check` refuses before the costly decryption, `update` records after the packet proved authentic.
    """

    __slots__ = ("_begin", "_esn", "_mask", "_ring", "size", "top")

    def __init__(self, size: int = DEFAULT_WINDOW, *, esn: bool = False) -> None:
        if size < MIN_WINDOW or size & (size - 1):
            raise ValueError(f"the replay window must be a power of two of at least {MIN_WINDOW} packets, not {size}")
        self.size = size
        self.top = 0
        self._begin = 1
        self._esn = esn
        self._mask = size - 1
        self._ring = array("Q", bytes(8 * size))

    def infer(self, low: int) -> int:
        """The full sequence number of a packet whose header carries `low` (RFC 4303, appendix A2.2).

        Without ESN that is `low`. With it, the high half is the one that puts the number closest to the window: a low
        half left of the window's lower edge belongs to the next cycle, unless the window itself spans two cycles.
        """
        if not self._esn:
            return low
        top_low = self.top & _LOW
        high = self.top - top_low
        if top_low >= self._mask:  # case A: the window lies within one cycle
            return high + low if low >= top_low - self._mask else high + _CYCLE + low
        # case B: the window spans two cycles; its lower edge wrapped around
        return high - _CYCLE + low if low >= (top_low - self._mask) & _LOW and high else high + low

    def check(self, sequence: int) -> None:
        """Raise `PacketDroppedError(REPLAY)` unless `sequence` may still be accepted."""
        if sequence > self.top:
            return
        if (
            sequence >= self._begin
            or sequence <= self.top - self.size
            or sequence <= 0
            or self._ring[sequence & self._mask] == sequence
        ):
            raise PacketDroppedError(DropReason.REPLAY)

    def update(self, sequence: int) -> None:
        """Record an authentic packet's `sequence`."""
        if sequence == self.top + 1:
            self.top = sequence
        elif sequence > self.top:
            self._store()
            self.top = self._begin = sequence
        elif sequence < self._begin:
            self._ring[sequence & self._mask] = sequence

    def update_run(self, first: int, count: int) -> None:
        """Record `count` consecutive authentic packets, all right of the top."""
        if first != self.top + 1:
            self._store()
            self._begin = first
        self.top = first + count - 1

    def _store(self) -> None:
        """Write the numbers from `_begin` to the top into the ring, as far as the window reaches."""
        mask, ring = self._mask, self._ring
        first = max(self._begin, self.top - mask)
        count = self.top - first + 1
        slot = first & mask
        before_end = min(count, self.size - slot)
        ring[slot : slot + before_end] = array("Q", range(first, first + before_end))
        if before_end < count:
            ring[: count - before_end] = array("Q", range(first + before_end, first + count))
