"""From datagrams on the NAT traversal port to the TUN device and, for IKE, to the process with the engine.

UDP_GRO joins datagrams of equal size that arrive one after the other into a train. From a sender without segmentation
offload, or over a link without GRO, they arrive one at a time and are joined here while they are read. So are trains that wait
at the same time and continue each other, since much of the work is done once for all packets that are opened at once. A train may hold
anything: IKE messages among ESP, packets of several SAs, forged ones. It is opened at once if it is what it should
be (see `open`); otherwise its packets are classified and opened one at a time.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from warren_ikev2.dataplane.counters import Counters
from warren_ikev2.dataplane.links import Link, Links
from warren_ikev2.dataplane.merge import Merger, Write
from warren_ikev2.dataplane.plain import PlainMerger, PlainOpener
from warren_ikev2.dataplane.trains import MAX_TRAIN, RECEIVE_BYTES
from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.sa import InboundSa
from warren_ikev2.esp.udp import MIN_ESP, DatagramKind, classify

try:
    from warren_ikev2.dataplane.open import TrainOpener
    from warren_ikev2.dataplane.runs import RunMerger
except ImportError:  # no numpy
    TrainOpener = RunMerger = None  # type: ignore[assignment,misc]

_LONGEST = 65536
"""Bytes of the longest train or datagram."""
RECEIVE_SIZE = RECEIVE_BYTES + _LONGEST
"""Bytes of the receive buffer: what is opened at once, and what ends it."""
_SMALLEST_JOINED = 200
"""Bytes: smaller ones carry acknowledgements, which are not merged, so that joining gains nothing."""


class Arrival(NamedTuple):
    """What one receive call returned. `source` is the port's form of the path, to compare with a link's target."""

    length: int
    stride: int
    """Bytes of each datagram of a train; 0 or `length` for a single one. The last may be shorter."""
    tos: int
    source: Any


class ReceivePort(Protocol):
    """A UDP socket that data arrives on (see `udp.OffloadPort`)."""

    def receive_into(self, buffer: memoryview) -> Arrival | None:
        """Receive a datagram or a train into the buffer; `None` when there is none. What equals the last is the same object."""
        ...


class Opener(Protocol):
    """Opens trains (see `open` and `plain`), of so many packets and bytes at most."""

    most_rows: int
    most_bytes: int

    def open(self, sa: InboundSa, stride: int, count: int) -> Any | None:
        """Open `count` packets at the start of the receive buffer; `None`, with nothing changed, if they are to be opened one
        at a time."""
        ...


class Runs(Protocol):
    """Delivers what an opener has opened."""

    def deliver(self, sa: InboundSa, train: Any, outer_tos: int) -> None:
        """Deliver all packets of a train in order; what is dropped is counted."""
        ...


class Inbound:
    """Takes what arrives. `packets` is the buffer to receive into."""

    def __init__(
        self,
        links: Links,
        counters: Counters,
        write: Write,
        on_ike: Callable[[bytes, Any, int, Any], None],
        on_source: Callable[[Link, Any], bool],
        *,
        vectorised: bool = True,
        merge_udp: bool = True,
    ) -> None:
        """`on_ike` takes an IKE datagram with the port's source, TOS byte and port; `on_source` an authentic packet's new
        source, and returns whether it was reported. `merge_udp`: the TUN device takes UDP datagrams merged.
        """
        self.packets = bytearray(RECEIVE_SIZE)
        self._view = memoryview(self.packets)
        self._links = links
        self._counters = counters
        self._on_ike = on_ike
        self._on_source = on_source
        self.merger = Merger(write, udp=merge_udp)
        self._opener: Opener
        self._runs: Runs
        if vectorised and TrainOpener is not None:
            self._opener, self._runs = TrainOpener(self.packets), RunMerger(self.merger, counters.drops)
        else:
            self._opener, self._runs = PlainOpener(self.packets), PlainMerger(self.merger, counters.drops)

    def drain(self, port: ReceivePort, limit: int) -> None:
        """Receive until there is nothing more, but about `limit` trains or single datagrams at most."""
        receive, view = port.receive_into, self._view
        arrival = receive(view)
        while arrival is not None and limit > 0:
            following = None
            if 0 < arrival.stride < arrival.length:
                arrival, following = self._join_trains(port, arrival)
            elif arrival.length >= _SMALLEST_JOINED and not arrival.length & 3:
                arrival, following = self._join(port, arrival)
            limit -= 1 + arrival.length // _LONGEST
            self.take(port, arrival)
            if following is not None:
                start = arrival.length
                view[: following.length] = bytes(view[start : start + following.length])
            arrival = following if following is not None else receive(view)
        if arrival is not None:
            self.take(port, arrival)

    def _join(self, port: ReceivePort, first: Arrival) -> tuple[Arrival, Arrival | None]:
        """Append datagrams of the same size, source and TOS byte; also returns the one that ended the train."""
        size, end, view = first.length, first.length, self._view
        link = self._links.by_spi.get(bytes(view[:4]))
        may_be_long = link is not None and link.policer is None  # a limited session loses what is joined all at once
        longest = min(self._opener.most_rows * size, self._opener.most_bytes if may_be_long else MAX_TRAIN)
        while end + size <= longest:
            arrival = port.receive_into(view[end:])
            if arrival is None:
                break
            if arrival is not first and (
                (arrival.length, arrival.tos, arrival.source) != (size, first.tos, first.source)
                or 0 < arrival.stride < arrival.length
            ):
                return Arrival(end, size, first.tos, first.source), arrival
            end += size
        return Arrival(end, size, first.tos, first.source), None

    def _join_trains(self, port: ReceivePort, first: Arrival) -> tuple[Arrival, Arrival | None]:
        """Append trains that continue one of an SA: what is done once a train is then done once for all of them.

        Also returns the one that does not. The packets of a limited session are not joined: they are dropped a train at a time.
        """
        length, stride, end, view = first.length, first.stride, first.length, self._view
        longest = min(self._opener.most_rows * stride, self._opener.most_bytes)
        if end + length > longest or end % stride or stride & 3:
            return first, None
        arrival = port.receive_into(view[end:])
        if arrival is None:
            return first, None
        link = self._links.by_spi.get(bytes(view[:4]))
        if link is None or link.policer is not None:
            return first, arrival
        number = int.from_bytes(view[:8], "big")  # SPI and sequence number
        while arrival is not None:
            if (
                (
                    arrival is not first
                    and ((arrival.stride, *arrival[2:]) != (stride, *first[2:]) or arrival.length <= stride)
                )
                or end + arrival.length > longest
                or int.from_bytes(view[end : end + 8], "big") != number + end // stride
            ):
                break
            end += arrival.length
            more = end + length <= longest and not end % stride
            arrival = port.receive_into(view[end:]) if more else None
        return Arrival(end, stride, first.tos, first.source), arrival

    def take(self, port: Any, arrival: Arrival) -> None:
        """Handle what was received into `packets`."""
        length, stride, _, _ = arrival
        if 0 < stride < length:
            self._take_train(port, arrival)
        else:
            self._take_one(port, bytes(self._view[:length]), arrival)
        self.merger.flush()

    def _take_train(self, port: Any, arrival: Arrival) -> None:
        length, stride, tos, source = arrival
        full = length // stride
        done = 0
        link = self._links.by_spi.get(bytes(self._view[:4]))
        if link is not None:
            inbound = link.pair.inbound
            train = self._opener.open(inbound, stride, full)
            if train is not None:
                self._counters.trains_opened += 1
                if link.policer is None or link.policer.inbound.take(full * stride):
                    before = inbound.packets
                    self._runs.deliver(inbound, train, tos)
                    self._counters.packets_in += inbound.packets - before
                else:
                    self._counters.drops[DropReason.RATE] += full
                self._authentic(link, source, newest=True)
                done = full * stride
            else:
                self._counters.trains_one_at_a_time += 1
        if done < length:
            self._take_each(port, arrival, link, done)

    def _take_each(self, port: Any, arrival: Arrival, link: Link | None, start: int) -> None:
        """The packets of a train one at a time; those of `link` without looking it up again."""
        length, stride, tos, source = arrival
        view, drops = self._view, self._counters.drops
        spi = bytes(view[:4])
        opened, top = 0, 0 if link is None else link.pair.inbound.replay.top
        for at in range(start, length, stride):
            datagram = bytes(view[at : min(at + stride, length)])
            if link is None or datagram[:4] != spi or len(datagram) < MIN_ESP:
                self._take_one(port, datagram, arrival)
                continue
            try:
                packet = link.pair.inbound.open(datagram, tos)
            except PacketDroppedError as dropped:
                drops[dropped.reason] += 1
                continue
            opened += 1
            self._deliver(link, packet)
        if link is not None and opened:
            self._authentic(link, source, newest=link.pair.inbound.replay.top > top)

    def _take_one(self, port: Any, datagram: bytes, arrival: Arrival) -> None:
        if datagram[:4] == b"\0\0\0\0" or len(datagram) < MIN_ESP:
            self._take_other(port, datagram, arrival)
            return
        try:
            packet = self._links.table.open(datagram, arrival.tos)
        except PacketDroppedError as dropped:
            self._counters.drops[dropped.reason] += 1
            return
        link = self._links.by_spi[datagram[:4]]
        if link.pair.waits_for is not None or arrival.source != link.target:
            self._authentic(link, arrival.source, newest=link.pair.inbound.is_newest(datagram))
        self._deliver(link, packet)

    def _deliver(self, link: Link, packet: bytes) -> None:
        if link.policer is not None and not link.policer.inbound.take(len(packet)):
            self._counters.drops[DropReason.RATE] += 1
            return
        self._counters.packets_in += 1
        self.merger.add(packet)

    def _take_other(self, port: Any, datagram: bytes, arrival: Arrival) -> None:
        kind = classify(datagram)
        if kind is DatagramKind.IKE:
            self._on_ike(datagram, arrival.source, arrival.tos, port)
        elif kind is DatagramKind.KEEPALIVE:
            self._counters.keepalives += 1
        else:
            self._counters.junk += 1

    def _authentic(self, link: Link, source: Any, *, newest: bool) -> None:
        """After an authentic packet: its SA is confirmed, and a new source, as behind a NAT, is reported once.

        Only the newest packet says where the peer is: one that was delayed, or caught and sent by somebody else, may have
        come from anywhere.
        """
        if link.pair.waits_for is not None:
            self._links.table.confirm(link.pair)
        if newest and source != link.target and source != link.reported and self._on_source(link, source):
            link.reported = source
