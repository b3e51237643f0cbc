"""What a host must reach besides its tunnels, from the kernel's own listings, and which tunnels would cut it off. Pure.

A tunnel would cut off one of the host's own networks if it takes packets to all of it; a tunnel to a part of such a network is
meant so. It would cut off a service (NATS, a name server) or the default gateway if its selectors contain the address.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from warren_contracts.addresses import IPAddress, IPNetwork
from warren_contracts.guard import Bypass, LocalNetwork
from warren_contracts.networks import contains, merged, overlap
from warren_contracts.selectors import TrafficSelector, networks_of
from warren_contracts.tunnel import Tunnel
from warren_intent.protection import is_routed

DNS_PORT = 53
UDP, TCP = 17, 6
MAX_NETWORKS = 64  # of the host's own
# linux/route.h, linux/ipv6_route.h
_GATEWAY, _REJECT, _LOCAL, _ANYCAST = 0x2, 0x200, 0x80000000, 0x00100000


class MainRoute(NamedTuple):
    """One route of the main table. `gateway` is None for a network of a link."""

    network: IPNetwork
    device: str
    gateway: IPAddress | None


@dataclass(frozen=True)
class Surroundings:
    """The routes of links that are not tunnels, this host's addresses, and the services that it needs."""

    routes: tuple[MainRoute, ...] = ()
    own: tuple[IPAddress, ...] = ()
    resolvers: tuple[IPAddress, ...] = ()
    servers: tuple[Bypass, ...] = ()

    @property
    def networks(self) -> tuple[IPNetwork, ...]:
        """The networks of its links."""
        found = (it.network for it in self.routes if it.gateway is None and it.network.prefixlen)
        return tuple(dict.fromkeys(it for it in found if not _is_unrouted(it.network_address)))[:MAX_NETWORKS]

    @property
    def gateways(self) -> tuple[IPAddress, ...]:
        """Its default gateways."""
        found = (it.gateway for it in self.routes if it.gateway is not None and not it.network.prefixlen)
        return tuple(dict.fromkeys(it for it in found if not _is_unrouted(it)))

    @property
    def services(self) -> tuple[Bypass, ...]:
        """The bus and the name servers."""
        names = (
            Bypass(address=address, protocol=protocol, port=DNS_PORT)
            for address in self.resolvers
            for protocol in (UDP, TCP)
        )
        return tuple(it for it in (*self.servers, *names) if not _is_unrouted(it.address))

    def source_of(self, address: IPAddress) -> tuple[IPAddress, ...]:
        """The local source addresses that packets to an address may have: those of the link that its route uses, else all."""
        family = [it for it in self.own if it.version == address.version]
        through = [it for it in self.routes if address in it.network]
        if not through:
            return tuple(family)
        device = max(through, key=lambda it: it.network.prefixlen).device
        links = [it.network for it in self.routes if it.device == device and it.gateway is None]
        return tuple(it for it in family if any(it in network for network in links)) or tuple(family)


@dataclass(frozen=True)
class Needs:
    """What must pass a tunnel by, so that it does not cut the host off. Nothing: false."""

    networks: tuple[LocalNetwork, ...] = ()
    services: tuple[Bypass, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.networks or self.services)

    def __str__(self) -> str:
        servers = dict.fromkeys(f"{it.address}:{it.port}" for it in self.services)
        return ", ".join((*(str(it.network) for it in self.networks), *servers))


def needs(tunnel: Tunnel, around: Surroundings) -> Needs:
    """What this tunnel would cut off. Nothing where an XFRM interface selects the traffic."""
    if is_routed(tunnel):
        return Needs()
    remote = [it for child in tunnel.link.children for it in child.remote_ts if it.addresses is not None]
    local = [it for child in tunnel.link.children for it in child.local_ts]
    whole = merged(networks_of(remote))
    covered = [it for it in around.networks if any(contains(wide, it) for wide in whole)]
    covered += [
        ip_network(it)
        for it in around.gateways
        if any(it in wide for wide in whole) and not any(it in net for net in covered)
    ]
    behind = networks_of(local)
    return Needs(
        tuple(LocalNetwork(network=it, behind=any(overlap(it, other) for other in behind)) for it in covered),
        tuple(it.model_copy(update={"routed": True}) for it in around.services if any(_takes(ts, it) for ts in remote)),
    )


def part_of_local(tunnels: Iterable[Tunnel], network: IPNetwork) -> str:
    """The tunnel whose remote networks are a part of a local network: packets within it must not pass all that by."""
    for tunnel in tunnels:
        for child in tunnel.link.children:
            for selector in child.remote_ts:
                if any(it != network and contains(network, it) for it in selector.networks):
                    return tunnel.name
    return ""


def _takes(selector: TrafficSelector, service: Bypass) -> bool:
    if selector.protocol not in (0, service.protocol) or not selector.ports[0] <= service.port <= selector.ports[1]:
        return False
    return any(service.address in network for network in selector.networks)


def _is_unrouted(address: IPAddress) -> bool:
    return address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified


# the kernel's listings


def parse_routes(text: str, is_link: Callable[[str], bool]) -> list[MainRoute]:
    """The IPv4 routes of /proc/net/route, which lists the main table. Lines that cannot be read are left out."""
    found = []
    for line in text.splitlines()[1:]:
        try:
            device, destination, gateway, flags, _, _, _, mask = line.split()[:8]
            bits = int.from_bytes(int(mask, 16).to_bytes(4, sys.byteorder), "big").bit_count()
            network = ip_network((_address4(destination), bits))
            number, via = int(flags, 16), _address4(gateway)
        except (ValueError, OverflowError):
            continue
        if is_link(device) and not number & _REJECT:
            found.append(MainRoute(network, device, via if number & _GATEWAY else None))
    return found


def parse_routes6(text: str, is_link: Callable[[str], bool]) -> list[MainRoute]:
    """The IPv6 routes of /proc/net/ipv6_route, without those of the host itself. Lines that cannot be read are left out."""
    found = []
    for line in text.splitlines():
        try:
            destination, bits, _, _, gateway, _, _, _, flags, device = line.split()[:10]
            network = ip_network((bytes.fromhex(destination), int(bits, 16)))
            number, via = int(flags, 16), ip_address(bytes.fromhex(gateway))
        except ValueError:
            continue
        if is_link(device) and not number & (_REJECT | _LOCAL | _ANYCAST):
            found.append(MainRoute(network, device, via if number & _GATEWAY else None))
    return found


def parse_resolvers(text: str) -> list[IPAddress]:
    """The name servers of a resolv.conf(5)."""
    found: list[IPAddress] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                found.append(ip_address(words[1].partition("%")[0]))
            except ValueError:
                continue
    return found


def _address4(number: str) -> IPAddress:
    return ip_address(int(number, 16).to_bytes(4, sys.byteorder))
