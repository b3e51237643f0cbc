"""XFRM interfaces of route-based tunnels: which are needed, and the commands that make and remove them. Pure.

An interface exists as long as the guard holds traffic of its tunnel: what is routed into it leaves through an SA or not at all
(net/xfrm/xfrm_interface_core.c), also while no daemon runs. An interface of another program with the same id is used as it is.

Networks at the other end get a route in charon's table; for a tunnel to all addresses routes are the operator's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.protection import ProtectedTraffic
from warren_contracts.selectors import TrafficSelector
from warren_guard.domain.leftovers import ROUTING_TABLE, CharonRoute

ALIAS = "warren"  # of the interfaces that a guard made
ROUTE_PROTOCOL = "87"  # of the routes that a guard made; 0 to 4 are the kernel's, others have names in rt_protos


@dataclass(frozen=True)
class XfrmInterface:
    """One XFRM interface of the kernel."""

    name: str
    if_id: int
    is_ours: bool
    is_up: bool


@dataclass(frozen=True)
class KernelLinks:
    """What a kernel has: XFRM interfaces, addresses, and the guard's own routes."""

    links: Sequence[XfrmInterface] = ()
    addresses: Sequence[IPAddress] = ()
    routes: Sequence[CharonRoute] = ()


@dataclass(frozen=True)
class WantedInterface:
    """One interface: networks that are routed into it, and the networks that packets come from."""

    remote: tuple[IPNetwork, ...] = ()
    local: tuple[IPNetwork, ...] = ()


def wanted(traffic: Iterable[ProtectedTraffic]) -> dict[int, WantedInterface]:
    """The interfaces that this traffic needs, by their ids."""
    found: dict[int, WantedInterface] = {}
    for entry in traffic:
        if entry.if_id_in:
            found.setdefault(entry.if_id_in, WantedInterface())
        if entry.if_id_out:
            before = found.get(entry.if_id_out, WantedInterface())
            remote = {it for pair in entry.pairs for it in _networks(pair.remote) if it.prefixlen}
            local = {it for pair in entry.pairs for it in _networks(pair.local)}
            found[entry.if_id_out] = WantedInterface(
                _sorted({*before.remote, *remote}), _sorted({*before.local, *local})
            )
    return found


def _networks(selectors: Iterable[TrafficSelector]) -> Iterator[IPNetwork]:
    for selector in selectors:
        yield from selector.networks


def _sorted(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    return tuple(sorted(networks, key=lambda it: (it.version, int(it.network_address), it.prefixlen)))


def name_of(if_id: int, links: Iterable[XfrmInterface]) -> str:
    """The interface with this id: the kernel's, else the name that the guard gives it."""
    return next((it.name for it in links if it.if_id == if_id), f"xfrm{if_id}")


def obsolete(needed: Mapping[int, WantedInterface], kernel: KernelLinks) -> list[str]:
    """The commands that remove the guard's own interfaces and routes that nothing needs any more."""
    names = {if_id: name_of(if_id, kernel.links) for if_id in needed}
    routes = {(names[if_id], network) for if_id, it in needed.items() for network in it.remote}
    stale = [it for it in kernel.routes if (it.device, it.destination) not in routes]
    return [
        *(
            f"route delete {it.destination} dev {it.device} table {ROUTING_TABLE} proto {ROUTE_PROTOCOL}"
            for it in stale
        ),
        *(f"link delete dev {it.name}" for it in kernel.links if it.is_ours and it.if_id not in needed),
    ]


def missing(if_id: int, needed: WantedInterface, kernel: KernelLinks) -> list[str]:
    """The commands that make one interface with its routes; none if everything is there."""
    link = next((it for it in kernel.links if it.if_id == if_id), None)
    name = name_of(if_id, kernel.links)
    lines = []
    if link is None:
        lines += [f"link add name {name} type xfrm if_id {if_id}", f"link set dev {name} alias {ALIAS}"]
    if link is None or (link.is_ours and not link.is_up):
        lines.append(f"link set dev {name} up")
    is_new = bool(lines)
    present = {it.destination for it in kernel.routes if it.device == name and not is_new}
    for network in needed.remote:
        if network not in present:
            source = _source(network, needed.local, kernel.addresses)
            lines.append(f"route replace {network} dev {name} table {ROUTING_TABLE} proto {ROUTE_PROTOCOL}{source}")
    return lines


def _source(network: IPNetwork, local: Sequence[IPNetwork], addresses: Sequence[IPAddress]) -> str:
    """The address of this host within the local networks, by which its own packets are the tunnel's."""
    for address in addresses:
        if address.version == network.version and any(it.version == address.version and address in it for it in local):
            return f" src {address}"
    return ""
