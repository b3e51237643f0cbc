"""Packets of the TUN device that stand for themselves: consecutive ones of one size for the same peer are sealed and sent together.

Most follow one of the same flow. Such a packet is recognised by the first bytes of its header and its addresses, and takes
the way of the one before without the choice of an SA.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from warren_ikev2.dataplane.checksum import Partial, completed
from warren_ikev2.dataplane.links import Link
from warren_ikev2.dataplane.merge import Buffer
from warren_ikev2.dataplane.trains import MAX_SEGMENTS, MAX_TRAIN, Train
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.pmtu import sealed_length
from warren_ikev2.esp.sa import OutboundSa
from warren_ikev2.esp.table import SaTable

_NONE_ALIKE = -1
_START4, _ADDRESSES4 = slice(0, 4), slice(12, 20)
"""IPv4's version, header length, TOS byte and total length."""
_START6, _ADDRESSES6 = slice(0, 6), slice(8, 40)
"""IPv6's version, traffic class, flow label and payload length."""


class Send(Protocol):
    """Sends ESP packets to a link's peer (see `path.DataPath`)."""

    def __call__(self, link: Link, parts: Sequence[Buffer], stride: int, packets: int, tos: int) -> None:
        """Send `packets` packets of `stride` bytes, the last of which may be shorter."""
        ...


class Sealer(Protocol):
    """Seals packets of one size at once (see `packets`)."""

    def takes(self, sa: OutboundSa, packets: list[bytes], partial: Partial | None, /) -> bool:
        """Whether it can serve these packets."""
        ...

    def seal(self, sa: OutboundSa, packets: list[bytes], partial: Partial | None) -> Train:
        """Seal packets of one version and length, but for the last, which may be shorter; their checksums are partial there."""
        ...


class PendingPackets:
    """The packets that wait for more of their size. The SAs must not change before `flush`."""

    def __init__(self, send: Send, drops: Counter[DropReason], table: SaTable, sealer: Sealer | None) -> None:
        self._send = send
        self._sealer = sealer
        self._drops = drops
        self._knows_addresses = table.knows_addresses
        self._packets: list[bytes] = []
        self._link: Link | None = None
        self._length = self._most = 0
        self._kind: tuple[int, int, Partial | None] = 0, 0, None
        """IP version, TOS byte, and where the checksums are partial."""
        self._alike = _NONE_ALIKE
        """The length of a packet that may go the way of the last one by its start and addresses."""
        self._start_at, self._addresses_at = _START4, _ADDRESSES4
        self._start = self._addresses = b""

    def add(self, link: Link, packet: bytes, tos: int, partial: Partial | None = None) -> None:
        """Add a packet that fits the link; its checksum may be `partial`, in a field that it has."""
        packets, length = self._packets, len(packet)
        kind = packet[0] >> 4, tos, partial
        if not packets or link is not self._link or kind != self._kind or length > self._length or self._is_full(link):
            if packets:
                self.flush()
            self._link, self._kind, self._length = link, kind, length
            self._packets.append(packet)
            return
        packets.append(packet)
        if length < self._length or len(packets) == self._most:
            self.flush()
        elif link.policer is None and self._knows_addresses(packet):
            v4 = packet[0] >> 4 == 4
            self._start_at, self._addresses_at = (_START4, _ADDRESSES4) if v4 else (_START6, _ADDRESSES6)
            self._start, self._addresses = packet[self._start_at], packet[self._addresses_at]
            self._alike = length

    def _is_full(self, link: Link) -> bool:
        if len(self._packets) == 1:
            size = sealed_length(link.pair.outbound.transform, self._length)
            self._most = min(MAX_SEGMENTS, MAX_TRAIN // size)
        return len(self._packets) >= self._most

    def add_alike(self, packet: bytes, partial: Partial | None) -> bool:
        """Add a packet if it is like the last one that may decide for others; returns whether it is."""
        if (
            len(packet) != self._alike
            or packet[self._addresses_at] != self._addresses
            or packet[self._start_at] != self._start
            or partial != self._kind[2]
        ):
            return False
        self._packets.append(packet)
        if len(self._packets) == self._most:
            self.flush()
        return True

    def flush(self) -> None:
        """Seal and send what waits."""
        packets, link = self._packets, self._link
        if not packets or link is None:
            return
        self._packets, self._alike = [], _NONE_ALIKE
        sa, (_, tos, partial) = link.pair.outbound, self._kind
        if len(packets) > 1 and self._sealer is not None and self._sealer.takes(sa, packets, partial):
            train = self._sealer.seal(sa, packets, partial)
            self._send(link, train.parts, train.stride, train.packets, tos)
            return
        if partial is not None:
            packets = [completed(packet, partial) for packet in packets]
        try:
            sealed = sa.seal_all(packets) if len(packets) > 1 else [sa.seal(packets[0])]
        except PacketDroppedError as dropped:  # the sequence numbers do not suffice for all
            self._drops[dropped.reason] += len(packets) - sa.remaining
            sealed = sa.seal_all(packets[: sa.remaining])
        if sealed:
            self._send(link, sealed, len(sealed[0]), len(sealed), tos)
