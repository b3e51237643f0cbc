"""The CHILD_SAs of the data plane, each with the path that its ESP packets take and the sizes that fit there.

All CHILD_SAs of all peers are in one `SaTable`: packets out are matched to one by their selectors, packets in by their SPI.
Where the selectors of two peers overlap, the CHILD_SA installed last sends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from warren_ikev2.addresses import Path
from warren_ikev2.children import ChildSa, ChildUsage
from warren_ikev2.dataplane.policer import Policer
from warren_ikev2.errors import ConfigurationError
from warren_ikev2.esp import pmtu
from warren_ikev2.esp.sa import OutboundSa
from warren_ikev2.esp.table import SaPair, SaTable
from warren_ikev2.randomness import RandomBytes

SMALLEST_PATH_MTU = {4: 576, 6: 1280}
"""Bytes. What the kernel reports below is a forgery or an unusable path (RFC 1191, 3; RFC 8200, 5)."""


class Port(Protocol):
    """A UDP socket as a link needs it (see `udp.OffloadPort`)."""

    def path_mtu(self, target: Any) -> int:
        """The path MTU to a target in bytes, as far as it is known."""
        ...

    def destination(self, path: Path) -> Any:
        """The socket's own form of a path, to send to and to compare with where packets came from."""
        ...


@dataclass(slots=True, eq=False)
class Link:
    """One CHILD_SA: its pair of SAs, its socket, and the longest inner packet, `mtu`, in bytes."""

    child: ChildSa
    pair: SaPair
    port: Any
    target: Any
    """`port.destination(child.path)`."""
    path_mtu: int = 0
    mtu: int = 0
    refreshed_at: int = 0
    """The outbound sequence number at which the path MTU was last asked for."""
    reported: Any = None
    """The last unexpected source of authentic packets that was reported."""
    policer: Policer | None = None
    """The limit of its session."""
    removed: bool = False
    """Whether it only accepts packets that were on the way."""

    def set_path_mtu(self, path_mtu: int) -> None:
        """Take over the longest outer packet in bytes."""
        version = self.child.path.remote.host.version
        self.path_mtu = max(path_mtu, SMALLEST_PATH_MTU[version])
        self.mtu = pmtu.inner_mtu(self.path_mtu, self.pair.outbound.transform, version)

    def usage(self) -> ChildUsage:
        """What the CHILD_SA has carried."""
        inbound, outbound = self.pair.inbound, self.pair.outbound
        return ChildUsage(inbound.octets, inbound.packets, outbound.octets, outbound.sequence)


@dataclass(slots=True)
class Links:
    """All CHILD_SAs. Times are seconds of the caller's clock."""

    random_bytes: RandomBytes
    path_mtu: int
    """The longest outer packet, in bytes, as long as a path shows no other."""
    table: SaTable = field(default_factory=SaTable)
    by_spi: dict[bytes, Link] = field(default_factory=dict)
    by_sa: dict[OutboundSa, Link] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Link]:
        return iter(self.by_spi.values())

    def install(self, child: ChildSa, port: Port, waits_for: int | None = None) -> Link:
        """Add a CHILD_SA. Raises `ConfigurationError` for what ESP here does not have, or an SPI in use."""
        key = child.spi_in.to_bytes(4, "big")
        if key in self.by_spi:
            raise ConfigurationError("a CHILD_SA with this inbound SPI exists")
        if waits_for is not None and waits_for.to_bytes(4, "big") not in self.by_spi:
            waits_for = None  # a data process that was started again does not have the pair that goes on sending
        pair = SaPair.of(child, self.random_bytes, waits_for=waits_for)
        link = Link(child, pair, port, port.destination(child.path))
        link.set_path_mtu(self.path_mtu)
        self.table.install(pair)
        self.by_spi[key] = self.by_sa[pair.outbound] = link
        return link

    def remove(self, spi_in: int, now: float, linger: float) -> None:
        """Stop sending on a CHILD_SA at once, and accepting on it after `linger` seconds; unknown ones are ignored."""
        link = self.find(spi_in)
        if link is not None:
            link.removed = True
            self.by_sa.pop(link.pair.outbound, None)
            self.table.remove(spi_in, now, linger)

    def find(self, spi_in: int) -> Link | None:
        """The CHILD_SA of an inbound SPI, or None."""
        return self.by_spi.get(spi_in.to_bytes(4, "big"))

    def move(self, spi_in: int, path: Path, port: Port) -> None:
        """Use another path for a CHILD_SA from now on; its path MTU is found again."""
        link = self.by_spi.get(spi_in.to_bytes(4, "big"))
        if link is None:
            return
        link.child = replace(link.child, path=path)
        link.port, link.target, link.reported = port, port.destination(path), None
        link.set_path_mtu(self.path_mtu)

    def refresh_mtu(self, link: Link) -> bool:
        """Take over the path MTU that the kernel knows; returns whether it is another one.

        The kernel lowers it after ICMP errors and forgets them after ten minutes (RFC 1191, 6.3). All links to the same host
        follow. Only links that have sent since the last time need this.
        """
        link.refreshed_at = link.pair.outbound.sequence
        path_mtu = min(self.path_mtu, link.port.path_mtu(link.target))
        if path_mtu == link.path_mtu:
            return False
        before = link.path_mtu
        for other in self:
            if other.child.path.remote.host == link.child.path.remote.host:
                other.set_path_mtu(path_mtu)
        return link.path_mtu != before

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self.table.get_timer()

    def handle_timer(self, now: float) -> None:
        """Forget replaced CHILD_SAs whose time is over."""
        for key in self.table.handle_timer(now):
            self.by_spi.pop(key, None)
