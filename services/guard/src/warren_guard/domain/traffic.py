"""Protected traffic as classes of packets, each with the pairs of addresses that it covers. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import NamedTuple

from warren_contracts.protection import ProtectedTraffic, TrafficPair
from warren_contracts.selectors import ANY_PORTS, OPAQUE_PORTS, AddressRange, Ports, TrafficSelector
from warren_guard.domain.ranges import Product, Range, difference, disjoint, union
from warren_guard.errors import TooManyElementsError

MAX_CLASSES = 256  # each is some rules that every unprotected packet passes
MAX_ELEMENTS = 200_000  # of all sets: 64 networks at each side of 48 children


class PacketClass(NamedTuple):
    """What restricts traffic besides its addresses. Protocol 0: any."""

    mark: int = 0
    mark_mask: int = 0
    protocol: int = 0
    local_ports: Ports = ANY_PORTS
    remote_ports: Ports = ANY_PORTS


@dataclass
class FamilyTraffic:
    """The addresses of one class in one family: pairs, and remote ranges for packets of the host itself."""

    pairs: tuple[Product, ...] = ()
    of_host: tuple[Range, ...] = ()


@dataclass
class _Collected:
    pairs: list[tuple[Range, tuple[Range, ...]]] = field(default_factory=list)
    of_host: list[Range] = field(default_factory=list)


# Not routed, so that no tunnel for "all addresses" means them: multicast, broadcast, link-local (RFC 4291, RFC 3927).
_NEVER_ROUTED = {
    4: tuple(ip_network(text) for text in ("224.0.0.0/4", "169.254.0.0/16", "255.255.255.255/32", "127.0.0.0/8")),
    6: tuple(ip_network(text) for text in ("ff00::/8", "fe80::/10", "::1/128")),
}
_UNROUTED_RANGES = {
    version: tuple((int(it.network_address), int(it.broadcast_address)) for it in networks)
    for version, networks in _NEVER_ROUTED.items()
}


def classify(traffic: Iterable[ProtectedTraffic]) -> dict[PacketClass, dict[int, FamilyTraffic]]:
    """The classes in order of first use; family 4 and 6 of each, where there is anything.

    Raises:
        TooManyElementsError: more than a table may hold.
    """
    collected: dict[PacketClass, dict[int, _Collected]] = {}
    for entry in traffic:
        for pair in entry.pairs:
            _collect(entry, pair, collected)
    if len(collected) > MAX_CLASSES:
        raise TooManyElementsError(
            f"{len(collected)} combinations of protocol, ports and mark exceed the limit of {MAX_CLASSES}"
        )
    found = {}
    count = 0
    for kind, families in collected.items():
        found[kind] = {
            version: FamilyTraffic(disjoint(it.pairs), union(it.of_host)) for version, it in families.items()
        }
        count += sum(len(remotes) for it in found[kind].values() for _, remotes in it.pairs)
    if count > MAX_ELEMENTS:
        raise TooManyElementsError(f"{count:,} pairs of networks exceed the limit of {MAX_ELEMENTS:,}")
    return found


def _collect(entry: ProtectedTraffic, pair: TrafficPair, collected: dict[PacketClass, dict[int, _Collected]]) -> None:
    for locals_, remotes, protocol, local_ports, remote_ports in _by_protocol(pair):
        mask = entry.mark_mask if entry.mark else 0
        kind = PacketClass(entry.mark, mask, protocol, local_ports, remote_ports)
        local_ranges, remote_ranges = _ranges(locals_), _ranges(remotes)
        for version in sorted(remote_ranges):
            far, own = tuple(remote_ranges[version]), union(local_ranges.get(version, ()))
            if any(selector.addresses is None for selector in locals_):
                of_class = collected.setdefault(kind, {}).setdefault(version, _Collected())
                of_class.of_host += far
            far = _beyond(far, own)
            if own and far:
                of_class = collected.setdefault(kind, {}).setdefault(version, _Collected())
                of_class.pairs += [(local, far) for local in own]


def _beyond(remote: Iterable[Range], local: tuple[Range, ...]) -> tuple[Range, ...]:
    """The remote ranges without the local ones that lie inside them: packets within one's own networks are not a tunnel's traffic,
    although `0.0.0.0/0` or an aggregate of all sites contains them. A remote network inside a local one is the narrower."""
    found: list[Range] = []
    for first, last in remote:
        inner = [it for it in local if first <= it[0] and it[1] <= last and it != (first, last)]
        found += difference(((first, last),), inner) if inner else ((first, last),)
    return union(found) if len(found) > 1 else tuple(found)


def _by_protocol(
    pair: TrafficPair,
) -> Iterable[tuple[list[TrafficSelector], list[TrafficSelector], int, Ports, Ports]]:
    """The selectors of both sides by what they have in common (RFC 7296, 2.9: a packet matches one of each side)."""
    sides = [_grouped(pair.local), _grouped(pair.remote)]
    for (protocol, ports), own in sides[0].items():
        for (other_protocol, other_ports), far in sides[1].items():
            if protocol == other_protocol or not protocol or not other_protocol:
                yield own, far, protocol or other_protocol, ports, other_ports


def _grouped(selectors: Iterable[TrafficSelector]) -> dict[tuple[int, Ports], list[TrafficSelector]]:
    groups: dict[tuple[int, Ports], list[TrafficSelector]] = {}
    for selector in selectors:
        # Ports that are not known (fragments) are protected with the whole protocol.
        ports = ANY_PORTS if selector.ports == OPAQUE_PORTS else selector.ports
        groups.setdefault((selector.protocol, ports), []).append(selector)
    return groups


def _ranges(selectors: Iterable[TrafficSelector]) -> dict[int, list[Range]]:
    """Their addresses by family; dynamic ones have none."""
    found: dict[int, list[Range]] = {}
    for selector in selectors:
        addresses = selector.addresses
        if addresses is None:
            continue
        if isinstance(addresses, AddressRange):
            found.setdefault(addresses.first.version, []).append((int(addresses.first), int(addresses.last)))
            continue
        first, version, length = int(addresses.network_address), addresses.version, addresses.prefixlen
        whole = (first, first + (1 << (addresses.max_prefixlen - length)) - 1)
        found.setdefault(version, []).extend((whole,) if length else difference((whole,), _UNROUTED_RANGES[version]))
    return found
