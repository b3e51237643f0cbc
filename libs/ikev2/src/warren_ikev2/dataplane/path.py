"""The data path: the TUN device and the sockets joined by the CHILD_SAs, one thread, without an event loop.

`tun_readable` and `port_readable` are called when there is something to read and move a bounded number of packets, so
that both directions and the control get their turn.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Protocol

from warren_ikev2.addresses import Path
from warren_ikev2.dataplane.counters import Counters
from warren_ikev2.dataplane.inbound import Inbound
from warren_ikev2.dataplane.links import Link, Links
from warren_ikev2.dataplane.merge import Buffer
from warren_ikev2.dataplane.outbound import FRAME_OFFSET, Outbound
from warren_ikev2.dataplane.tun import TunQueue
from warren_ikev2.dataplane.udp import OffloadPort, Sent
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.esp.drops import DropReason

FRAMES_AT_A_TIME = 64
TRAINS_AT_A_TIME = 16


class Owner(Protocol):
    """What the data path reports."""

    def take_ike(self, datagram: bytes, path: Path, tos: int) -> None:
        """An IKE message, marker included."""

    def take_source(self, link: Link, path: Path) -> bool:
        """An authentic packet came over another path; returns whether it was taken note of."""
        ...

    def take_mtu(self, link: Link) -> None:
        """The path MTU of a link is another one."""


class DataPath:
    """Moves packets between a TUN device and the sockets, and reports to its owner."""

    def __init__(
        self,
        tun: TunQueue,
        ports: Sequence[OffloadPort],
        links: Links,
        owner: Owner,
        *,
        vectorised: bool = True,
    ) -> None:
        self.links = links
        self.counters = Counters()
        self._tun = tun
        self._ports = {port.address.host.version: port for port in ports}
        self._owner = owner
        self._outbound = Outbound(
            links, self.counters, self._send, self._send_fragmented, self._write_tun, vectorised=vectorised
        )
        self._inbound = Inbound(
            links, self.counters, self._write_tun, self._take_ike, self._take_source,
            vectorised=vectorised, merge_udp=tun.takes_udp_merged,
        )  # fmt: skip
        self._frame = memoryview(self._outbound.frame)[FRAME_OFFSET:]

    def port_for(self, path: Path) -> OffloadPort:
        """The socket that sends on a path. Raises `ConfigurationError` if there is none of its IP version."""
        port = self._ports.get(path.local.host.version)
        if port is None:
            raise ConfigurationError(f"the data plane has no socket for {path.local}")
        return port

    def tun_readable(self) -> None:
        """Take frames of the TUN device. Raises `TunRemovedError`."""
        read, take, frame = self._tun.read_into, self._outbound.take_frame, self._frame
        for _ in range(FRAMES_AT_A_TIME):
            length = read(frame)
            if not length:
                break
            take(length)
        self._outbound.flush()

    def port_readable(self, port: OffloadPort) -> None:
        """Take datagrams of a socket. Raises `TunRemovedError`."""
        self._inbound.drain(port, TRAINS_AT_A_TIME)

    def replace_port(self, port: OffloadPort) -> OffloadPort | None:
        """Send from another socket from now on; returns the one of its IP version that it replaces."""
        version = port.address.host.version
        old = self._ports.get(version)
        self._ports[version] = port
        for link in self.links:
            if link.port is old:
                link.port, link.target = port, port.destination(link.child.path)
        return old

    def refresh_mtus(self) -> None:
        """Ask the kernel for the path MTU of each link that has sent since the last time."""
        for link in self.links:
            if link.pair.outbound.sequence != link.refreshed_at and self.links.refresh_mtu(link):
                self._owner.take_mtu(link)

    def snapshot(self) -> dict[str, int]:
        """The counters by name; drops as `drops_<reason>`."""
        self.counters.merged = self._inbound.merger.merged
        totals = {
            field.name: getattr(self.counters, field.name) for field in fields(self.counters) if field.name != "drops"
        }
        return totals | {f"drops_{reason}": self.counters.drops[reason] for reason in DropReason}

    # ---- what the two directions need

    def _send(self, link: Link, parts: Sequence[Buffer], stride: int, packets: int, tos: int) -> None:
        outcome = link.port.send(link.target, parts, stride, packets, tos)
        if outcome is Sent.TAKEN:
            self.counters.sends += 1
            self.counters.packets_out += packets
        else:
            self._not_sent(link, outcome)

    def _send_fragmented(self, link: Link, datagram: bytes, tos: int) -> None:
        outcome = link.port.send_fragmented(link.target, datagram, tos)
        if outcome is Sent.TAKEN:
            self.counters.sends += 1
            self.counters.packets_out += 1
        else:
            self.counters.send_errors += 1

    def _not_sent(self, link: Link, outcome: Sent) -> None:
        """The packets are lost. If the path MTU fell, the next long one is answered by ICMP, or fragmented."""
        if outcome is Sent.TOO_BIG:
            self.counters.path_mtu_changes += 1
            if self.links.refresh_mtu(link):
                self._owner.take_mtu(link)
        else:
            self.counters.send_errors += 1

    def _write_tun(self, parts: Sequence[Buffer]) -> None:
        if not self._tun.write(parts):
            self.counters.tun_errors += 1

    def _take_ike(self, datagram: bytes, source: Any, tos: int, port: OffloadPort) -> None:
        self._owner.take_ike(datagram, port.path(source), tos)

    def _take_source(self, link: Link, source: Any) -> bool:
        return self._owner.take_source(link, link.port.path(source))
