"""The data process: `python -m warren_ikev2.dataplane.process DESCRIPTOR`, started by the process with the IKEv2 engine.

The descriptor is its end of the control socket pair (see `control`). It ends when the other end closes, so it never outlives
the process that holds the IKE_SAs. One thread waits for the TUN device, the sockets and the control, and moves bounded
batches of each in turn; without traffic it sleeps.
"""

import gc
import math
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice

from warren_ikev2.addresses import Path
from warren_ikev2.dataplane import control
from warren_ikev2.dataplane.channel import MAX_PORTS, receive
from warren_ikev2.dataplane.links import Link, Links
from warren_ikev2.dataplane.outbound import VECTORISED
from warren_ikev2.dataplane.path import DataPath
from warren_ikev2.dataplane.policer import Policers
from warren_ikev2.dataplane.privileges import drop_privileges
from warren_ikev2.dataplane.seccomp import restrict_system_calls
from warren_ikev2.dataplane.tun import TunQueue, TunRemovedError
from warren_ikev2.dataplane.udp import OffloadPort
from warren_ikev2.errors import IkeError

REPLACED_SECONDS = 2.0
"""How long a replaced socket is still read, for what the peer sent before it received the update."""
STATISTICS_SECONDS = 1.0
"""Between two reports while there is traffic: the precision of lifetimes by bytes and packets."""
_CONTROL_AT_A_TIME = 64
_EVENTS_AT_A_TIME = 16


class DataProcess:
    """Joins a data path to its control."""

    def __init__(self, channel: socket.socket, start: control.Start, descriptors: list[int]) -> None:
        self._channel = channel
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._control = channel.fileno()
        self._report_at: float | None = None
        self._now, self._timer_at = time.monotonic(), math.inf
        self._running = True
        self._replaced: list[tuple[float, OffloadPort]] = []
        tun = TunQueue(descriptors[0])
        self._udp_gso = start.udp_gso
        ports = [self._port(descriptor) for descriptor in descriptors[1:]]
        self._policers = Policers(time.monotonic)
        links = Links(os.urandom, start.path_mtu)
        self._path = DataPath(tun, ports, links, self, vectorised=start.vectorised)
        self._offloads = tun.offloads
        self._watch_for(channel.fileno(), self._control_readable)
        self._watch_for(tun.fileno(), self._path.tun_readable)
        for port in ports:
            self._watch(port)

    def _port(self, descriptor: int) -> OffloadPort:
        return OffloadPort(socket.socket(fileno=descriptor), gso=self._udp_gso)

    def _watch(self, port: OffloadPort) -> None:
        self._watch_for(port.fileno(), lambda: self._path.port_readable(port))

    def _watch_for(self, descriptor: int, handle: Callable[[], None]) -> None:
        """Call `handle` when there is something to read. An epoll object of our own: `selectors` costs 2 µs a turn."""
        self._handlers[descriptor] = handle
        self._poll.register(descriptor, select.EPOLLIN)

    def run(self, *, vectorised: bool) -> None:
        """Move packets until the control ends or asks for the end."""
        self._report(control.Started(os.getpid(), self._offloads, vectorised and VECTORISED))
        try:
            while self._running:
                self._turn()
        except TunRemovedError:
            self._report(control.TunRemoved())

    def _turn(self) -> None:
        """Handle what is ready. With traffic there are thousands of turns a second, so timers are looked at when one is due."""
        wait = None if self._timer_at == math.inf else max(0.0, self._timer_at - self._now)
        ready = self._poll.poll(wait, _EVENTS_AT_A_TIME)
        controlled = traffic = False
        if len(ready) > 1:
            # The control comes first: it installs CHILD_SAs whose first packets may be waiting in a socket.
            ready.sort(key=lambda it: it[0] != self._control)
        for descriptor, _ in ready:
            self._handlers[descriptor]()
            if descriptor == self._control:
                controlled = True
            else:
                traffic = True
        self._now = time.monotonic()
        if traffic and self._report_at is None:
            self._report_at = self._now + STATISTICS_SECONDS
            self._timer_at = min(self._timer_at, self._report_at)
        if controlled or self._now >= self._timer_at:
            self._handle_timers()

    def _handle_timers(self) -> None:
        """Do what is due, and find out what is due next."""
        now = self._now
        if self._report_at is not None and self._report_at <= now:
            self._report_at = None
            self._path.refresh_mtus()
            self._report_statistics()
        self._path.links.handle_timer(now)
        while self._replaced and self._replaced[0][0] <= now:
            _, port = self._replaced.pop(0)
            descriptor = port.fileno()
            self._poll.unregister(descriptor)
            del self._handlers[descriptor]
            port.close()
        closing = self._replaced[0][0] if self._replaced else None
        times = (self._path.links.get_timer(), self._report_at, closing)
        self._timer_at = min((at for at in times if at is not None), default=math.inf)

    def stop(self) -> None:
        """End after the present turn."""
        self._running = False

    # ---- path.Owner

    def take_ike(self, datagram: bytes, path: Path, tos: int) -> None:
        """See `path.Owner`."""
        if not self._report(control.IkeReceived(datagram, path, tos)):
            self._path.counters.ike_lost += 1

    def take_source(self, link: Link, path: Path) -> bool:
        """See `path.Owner`."""
        return self._report(control.SourceChanged(link.child.spi_in, path))

    def take_mtu(self, link: Link) -> None:
        """See `path.Owner`."""
        self._report(control.PathMtuChanged(link.child.spi_in, link.path_mtu, link.mtu))

    # ---- control

    def _report(self, message: control.Message) -> bool:
        """Send without waiting; returns whether the other end can take it."""
        try:
            self._channel.send(control.build(message), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            self._running = False
            return False
        return True

    def _remove(self, spi_in: int, linger: float) -> None:
        """Remove a CHILD_SA; what it has carried is reported a last time."""
        link = self._path.links.find(spi_in)
        if link is not None:
            self._report(control.Statistics((_statistics(link, removed=True),), self._path.snapshot()))
            self._path.links.remove(spi_in, time.monotonic(), linger)

    def _report_statistics(self) -> None:
        totals = self._path.snapshot()
        for children in _groups(iter(self._path.links), control.CHILDREN_AT_A_TIME):
            self._report(control.Statistics(tuple(map(_statistics, children)), totals))

    def _control_readable(self) -> None:
        for _ in range(_CONTROL_AT_A_TIME):
            try:
                message, descriptors = receive(self._channel)
            except BlockingIOError:
                return
            except EOFError:
                self._running = False
                return
            self._handle(message, descriptors)

    def _handle(self, message: control.Message, descriptors: list[int]) -> None:
        links = self._path.links
        match message:
            case control.InstallChild(child, waits_for, limit):
                link = links.install(child, self._path.port_for(child.path), waits_for)
                if limit is not None:
                    link.policer = self._policers.of(limit.session, limit.bytes_per_second)
            case control.RemoveChild(spi_in, linger):
                self._remove(spi_in, linger)
            case control.MoveChild(spi_in, path):
                links.move(spi_in, path, self._path.port_for(path))
            case control.ReplacePort() if len(descriptors) == 1:
                port = self._port(descriptors[0])
                self._watch(port)
                old = self._path.replace_port(port)
                if old is not None:
                    self._replaced.append((time.monotonic() + REPLACED_SECONDS, old))
            case control.RequestStatistics():
                self._report_statistics()
            case control.Stop():
                self._running = False
            case _:
                raise control.ControlError(f"{type(message).__name__} is not for the data process")


def _statistics(link: Link, *, removed: bool = False) -> control.ChildStatistics:
    usage, outbound = link.usage(), link.pair.outbound
    return control.ChildStatistics(
        link.child.spi_in, usage.bytes_in, usage.packets_in, usage.bytes_out, usage.packets_out, outbound.remaining,
        removed or link.removed,
    )  # fmt: skip


def _groups(links: Iterator[Link], size: int) -> Iterator[list[Link]]:
    """At least one group, which may be empty."""
    yield list(islice(links, size))
    while group := list(islice(links, size)):
        yield group


def main() -> None:
    """Run the data process on the control socket whose descriptor is the only argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to the whole group; the control ends us in order
    try:
        start, descriptors = receive(channel, wait=True)
    except EOFError:
        return
    if not isinstance(start, control.Start) or not 2 <= len(descriptors) <= 1 + MAX_PORTS:
        sys.exit("warren_ikev2.dataplane: the first control message must be Start with a TUN device and sockets")
    process = DataProcess(channel, start, descriptors)
    signal.signal(signal.SIGTERM, lambda *_: process.stop())
    drop_privileges(start.user)
    restrict_system_calls()
    gc.freeze()  # what is loaded by now stays: the collector need not look at it again
    try:
        process.run(vectorised=start.vectorised)
    except IkeError as error:
        sys.exit(f"warren_ikev2.dataplane: {error}")


if __name__ == "__main__":
    main()
