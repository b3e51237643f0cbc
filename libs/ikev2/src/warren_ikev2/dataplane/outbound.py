"""From the TUN device to ESP packets on the wire.

A TSO packet becomes trains (`seal`); of all other packets, consecutive ones of equal size for the same peer share a send (`pending`).
The scalar path serves whatever the trains cannot: other ciphers, UDP segmentation, the end of the sequence numbers.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from warren_ikev2.dataplane.checksum import PROTO_TCP, PROTO_UDP, Partial, completed
from warren_ikev2.dataplane.counters import Counters
from warren_ikev2.dataplane.links import Link, Links
from warren_ikev2.dataplane.merge import Write
from warren_ikev2.dataplane.pending import PendingPackets, Send
from warren_ikev2.dataplane.plain_seal import PlainSealer
from warren_ikev2.dataplane.segment import TransportShape, segment, transport_shape
from warren_ikev2.dataplane.trains import MAX_TRAIN, Train
from warren_ikev2.dataplane.vnet import GSO_NONE, HEADER_SIZE, NEEDS_CSUM, NO_OFFLOAD, VnetHeader, parse_vnet
from warren_ikev2.esp import pmtu
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.inner import tos_of
from warren_ikev2.esp.sa import OutboundSa

try:
    from warren_ikev2.dataplane.layout import TrainBuffers
    from warren_ikev2.dataplane.packets import PacketSealer
    from warren_ikev2.dataplane.seal import TcpSealer
except ImportError:  # no numpy
    TrainBuffers = None  # type: ignore[assignment,misc]

VECTORISED = TrainBuffers is not None
"""Whether numpy is there."""
FRAME_OFFSET = 2
"""Where the vnet header stands in the frame buffer, so that the IP header is at a multiple of 4 bytes."""
FRAME_SIZE = FRAME_OFFSET + HEADER_SIZE + 65535
_IP = FRAME_OFFSET + HEADER_SIZE
_MIN_IPV6_MTU = 1280
_NO_OPTIONS, _AFTER_PORTS = 0x45, 4


class TsoSealer(Protocol):
    """Segments and seals TSO packets (see `seal` and `plain_seal`)."""

    def takes(self, sa: OutboundSa, packet_length: int, header: VnetHeader, shape: TransportShape, /) -> bool:
        """Whether it can serve this packet."""
        ...

    def seal(self, sa: OutboundSa, packet: memoryview, header: VnetHeader, shape: TransportShape) -> Iterator[Train]:
        """Yield the trains of a packet, which may be changed; each must be sent before the next is asked for."""
        ...


class Outbound:
    """Takes the frames of a TUN device. `vectorised` has no effect without numpy."""

    def __init__(
        self,
        links: Links,
        counters: Counters,
        send: Send,
        send_fragmented: Callable[[Link, bytes, int], None],
        write: Write,
        *,
        vectorised: bool = True,
    ) -> None:
        """`send_fragmented` sends one datagram that routers may fragment; `write` takes our answers to the TUN device."""
        self.frame = bytearray(FRAME_SIZE)
        self._view = memoryview(self.frame)
        self._links = links
        self._counters = counters
        self._send = send
        self._send_fragmented = send_fragmented
        self._write = write
        self._sealers: tuple[TsoSealer, ...] = (PlainSealer(),)
        of_packets = None
        if vectorised and VECTORISED:
            buffers = TrainBuffers(bytearray(MAX_TRAIN + 64))
            self._sealers, of_packets = (TcpSealer(buffers), *self._sealers), PacketSealer(buffers)
        self._pending = PendingPackets(send, counters.drops, links.table, of_packets)
        self.flush = self._pending.flush
        """Send what waits for more of its size. To be called when the TUN device has nothing more to read."""

    def take_frame(self, length: int) -> None:
        """Handle the frame of `length` bytes, vnet header included, that stands in `frame` at FRAME_OFFSET."""
        packet = self._view[_IP : FRAME_OFFSET + length]
        try:
            fields = parse_vnet(self.frame, FRAME_OFFSET)
            flags, kind, _, _, start, offset = fields
            if kind != GSO_NONE:
                self._take_large(packet, VnetHeader._make(fields))
                return
            partial = (start, offset) if flags & NEEDS_CSUM else None
            whole = bytes(packet)
            if not self._pending.add_alike(whole, partial):
                self._take_first(whole, partial)
        except PacketDroppedError as dropped:
            self._counters.drops[dropped.reason] += 1

    def _take_first(self, packet: bytes, partial: Partial | None) -> None:
        """Queue a packet that is not like the one before."""
        if partial is not None:
            start, offset = partial
            if start + offset + 2 > len(packet):
                raise PacketDroppedError(DropReason.MALFORMED)
            if not _is_of_transport(packet, start, offset):
                packet, partial = completed(packet, partial), None
        self._take(packet, partial)

    def _take_or_count(self, packet: bytes) -> None:
        try:
            self._take(packet)
        except PacketDroppedError as dropped:
            self._counters.drops[dropped.reason] += 1

    def _take(self, packet: bytes, partial: Partial | None = None) -> None:
        """Queue one packet, whose checksum may be partial."""
        link = self._links.by_sa[self._links.table.outbound_for(packet)]
        if link.policer is not None and not link.policer.outbound.take(len(packet)):
            raise PacketDroppedError(DropReason.RATE)
        if len(packet) > link.mtu:
            self._take_long(link, packet if partial is None else completed(packet, partial))
        else:
            self._pending.add(link, packet, packet[1] if packet[0] < 0x50 else tos_of(packet), partial)

    def _take_long(self, link: Link, packet: bytes) -> None:
        """Fragment a packet, or report the MTU to its sender (RFC 4301, 8.2)."""
        if pmtu.may_fragment(packet):
            for fragment in pmtu.fragment_ipv4(packet, link.mtu):
                self._pending.add(link, fragment, tos_of(packet))
        elif packet[0] >> 4 == 6 and len(packet) <= _MIN_IPV6_MTU:
            # no IPv6 sender goes below, so the outer packet is fragmented instead (RFC 8200, 5)
            self.flush()
            self._send_fragmented(link, link.pair.outbound.seal(packet), tos_of(packet))
        else:
            self._counters.drops[DropReason.TOO_BIG] += 1
            self._answer_too_big(link, packet)

    def _answer_too_big(self, link: Link, packet: bytes) -> None:
        if not pmtu.may_be_answered(packet):
            return
        self._counters.too_big_answers += 1
        self._write((NO_OFFLOAD, pmtu.build_too_big(packet, link.mtu)))

    def _take_large(self, packet: memoryview, header: VnetHeader) -> None:
        """A packet that stands for several."""
        shape = transport_shape(packet, header)
        if shape is None:
            raise PacketDroppedError(DropReason.MALFORMED)
        headers = bytes(packet[: shape.payload])
        sa = self._links.table.select(headers)
        link = self._links.by_sa[sa]
        longest = min(len(packet), shape.payload + header.gso_size)
        if longest > link.mtu and not pmtu.may_fragment(headers) and longest > _MIN_IPV6_MTU:
            self._counters.drops[DropReason.TOO_BIG] += -(-(len(packet) - shape.payload) // header.gso_size)
            self._answer_too_big(link, _first_segment(packet, header, shape))
        elif longest > link.mtu or (sealer := self._sealer_for(sa, packet, header, shape)) is None:
            for part in segment(bytes(packet), header):
                self._take_or_count(part)
        elif link.policer is not None and not link.policer.outbound.take(len(packet)):
            self._counters.drops[DropReason.RATE] += -(-(len(packet) - shape.payload) // header.gso_size)
        else:
            self.flush()
            tos = tos_of(headers)
            for train in sealer.seal(sa, packet, header, shape):
                self._counters.trains_sealed += 1
                self._send(link, train.parts, train.stride, train.packets, tos)

    def _sealer_for(
        self, sa: OutboundSa, packet: memoryview, header: VnetHeader, shape: TransportShape
    ) -> TsoSealer | None:
        for sealer in self._sealers:
            if sealer.takes(sa, len(packet), header, shape):
                return sealer
        return None


def _is_of_transport(packet: bytes, start: int, offset: int) -> bool:
    """Whether a checksum field is in a TCP or UDP header, behind the ports: the choice of the SA does not depend on it."""
    if start == 20:
        return packet[0] == _NO_OPTIONS and offset >= _AFTER_PORTS
    return start == 40 and packet[0] >> 4 == 6 and packet[6] in (PROTO_TCP, PROTO_UDP) and offset >= _AFTER_PORTS


def _first_segment(packet: memoryview, header: VnetHeader, shape: TransportShape) -> bytes:
    first = bytes(packet[: shape.payload + header.gso_size])
    return segment(first, header)[0]
