"""Which states, policies and routes of the kernel belong to CHILD_SAs that a daemon no longer has. Pure.

What names an SPI of them is theirs: a state by its destination, an outbound policy by its template. Inbound and forward policies
name no SPI; they belong to an outbound policy of theirs that they mirror. A route of charon's table belongs to outbound policies
of theirs, if no other policy has its destination.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from warren_contracts.addresses import IPNetwork
from warren_contracts.leftovers import Leftover, LeftoverKind, OwnedSa


@dataclass(frozen=True)
class SelectorPorts:
    """The part of a policy's selector behind the addresses, as ip-xfrm(8) prints it."""

    protocol: str = ""
    source: str = ""
    destination: str = ""
    rest: tuple[str, ...] = ()

    @property
    def mirrored(self) -> "SelectorPorts":
        """For packets of the other direction."""
        return SelectorPorts(self.protocol, self.destination, self.source, self.rest)


@dataclass(frozen=True)
class XfrmState:
    """One ESP SA of the kernel."""

    source: str
    destination: str
    spi: str
    mark: int = 0
    mark_mask: int = 0


@dataclass(frozen=True)
class XfrmPolicy:
    """One policy. `outer_*` and `spi` are those of its ESP template: empty without one, 00000000 where it names no SPI."""

    direction: str
    source: IPNetwork
    destination: IPNetwork
    ports: SelectorPorts
    index: int
    outer_source: str
    outer_destination: str
    spi: str
    mark: int = 0
    mark_mask: int = 0
    if_id: int = 0


@dataclass(frozen=True)
class CharonRoute:
    """One route of charon's table."""

    destination: IPNetwork
    device: str


@dataclass(frozen=True)
class KernelIpsec:
    """What a kernel holds of IPsec."""

    states: Sequence[XfrmState] = ()
    policies: Sequence[XfrmPolicy] = ()
    routes: Sequence[CharonRoute] = ()


def find(sas: Iterable[OwnedSa], kernel: KernelIpsec) -> tuple[Leftover, ...]:
    """What belongs to these CHILD_SAs, in the order in which it can be removed: whatever is removed, what remains can still be
    found by the SPIs of outbound policies and states."""
    owned = tuple(sas)
    spis = {spi for sa in owned for spi in ((str(sa.local), sa.spi_in), (str(sa.remote), sa.spi_out))}
    outbound = {(str(sa.local), str(sa.remote), sa.spi_out): sa for sa in owned}
    out = [
        (it, outbound[key])
        for it in kernel.policies
        if it.direction == "out" and (key := (it.outer_source, it.outer_destination, it.spi)) in outbound
    ]
    mirrors = {
        (
            it.destination, it.source, it.ports.mirrored, it.outer_destination, it.outer_source, sa.if_id_in, sa.mark_in,
        )
        for it, sa in out
    }  # fmt: skip
    inbound = [
        it
        for it in kernel.policies
        if it.direction != "out"
        and (it.source, it.destination, it.ports, it.outer_source, it.outer_destination, it.if_id, it.mark) in mirrors
    ]
    gone = {it.index for it, _ in out}
    used = {it.destination for it in kernel.policies if it.direction == "out" and it.index not in gone}
    destinations = {it.destination for it, _ in out} - used
    return (
        *(
            Leftover(kind=LeftoverKind.ROUTE, destination=it.destination, device=it.device)
            for it in kernel.routes
            if it.destination in destinations
        ),
        *map(_policy, inbound),
        *(_policy(it) for it, _ in out),
        *(_state(it) for it in kernel.states if (it.destination, it.spi) in spis),
    )


def _policy(found: XfrmPolicy) -> Leftover:
    return Leftover(
        kind=LeftoverKind.POLICY, source=found.source, destination=found.destination, spi=found.spi,
        direction=found.direction, index=found.index, mark=found.mark, mark_mask=found.mark_mask, if_id=found.if_id,
    )  # fmt: skip


def _state(found: XfrmState) -> Leftover:
    return Leftover(
        kind=LeftoverKind.STATE, source=ip_network(found.source), destination=ip_network(found.destination), spi=found.spi,
        mark=found.mark, mark_mask=found.mark_mask,
    )  # fmt: skip


def removal(leftover: Leftover) -> str:
    """The line for `ip -batch` that removes it."""
    mark = f" mark {leftover.mark:#x} mask {leftover.mark_mask:#x}" if leftover.mark_mask else ""
    if leftover.kind is LeftoverKind.ROUTE:
        return f"route delete {leftover.destination} dev {leftover.device} table {ROUTING_TABLE}"
    if leftover.kind is LeftoverKind.POLICY:
        if_id = f" if_id {leftover.if_id:#x}" if leftover.if_id else ""
        return f"xfrm policy delete index {leftover.index} dir {leftover.direction}{mark}{if_id}"
    assert leftover.source is not None
    source, destination = leftover.source.network_address, leftover.destination.network_address
    return f"xfrm state delete src {source} dst {destination} proto esp spi 0x{leftover.spi}{mark}"


ROUTING_TABLE = 220
"""charon.routing_table of strongswan.conf(5)."""
