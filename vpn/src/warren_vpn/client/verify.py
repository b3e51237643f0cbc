"""What a server that has authenticated may not do nevertheless. Pure.

The engine refuses a wrong identity or key, and selectors outside of what was offered. Here: addresses that would redirect the
host's own traffic, and selectors that leave out a part of the profile's routes, whose packets would be dropped without a word.
"""

from collections.abc import Iterable, Sequence

from warren_contracts.networks import contains
from warren_ikev2.children import ChildSa
from warren_ikev2.errors import IkeError
from warren_ikev2.events import NetworkAttributes
from warren_ikev2.selectors import TrafficSelector
from warren_vpn.host.changes import Address, Interface, Network

MAX_ADDRESSES = 2  # one of each IP version
MAX_DNS = 16


class ServerRefusedError(IkeError):
    """The server assigned what this client does not accept. Correct the server's configuration, or the profile."""


def accepted_addresses(network: NetworkAttributes, server: Address, own: Sequence[Interface]) -> tuple[Address, ...]:
    """The addresses that the server gave us, one of each IP version. ServerRefusedError names the wrong one."""
    if not network.addresses:
        raise ServerRefusedError("it assigned no address; check the server's pool")
    found = {address.version: address for address in reversed(network.addresses)}
    for address in found.values():
        _check_address(address, server, own)
    return tuple(found[version] for version in sorted(found))


def _check_address(address: Address, server: Address, own: Sequence[Interface]) -> None:
    if not _is_of_a_network(address):
        raise ServerRefusedError(f"it assigned {address}, which is not a unicast address of a network")
    if address == server:
        raise ServerRefusedError(f"it assigned its own address {address}")
    for interface in own:
        if address.version == interface.version and address in interface.network:
            raise ServerRefusedError(
                f"it assigned {address}, which lies in this host's own network {interface.network}"
            )


def check_selectors(child: ChildSa, addresses: Sequence[Address], routes: Sequence[Network]) -> None:
    """Both sides of the CHILD_SA. ServerRefusedError names what is missing."""
    for address in addresses:
        host = TrafficSelector.from_host(address)
        if not any(host.is_subset_of(selector) for selector in child.local_ts):
            raise ServerRefusedError(f"it assigned {address}, but its traffic selectors do not hold that address")
    hosts = [TrafficSelector.from_host(address) for address in addresses]
    for selector in child.local_ts:
        if not any(selector.is_subset_of(host) for host in hosts):
            raise ServerRefusedError(f"it would send packets to {selector}, not only to the address that it assigned")
    versions = {address.version for address in addresses}
    for route in routes:
        if route.version in versions and not _covered(route, child.remote_ts):
            offered = ", ".join(map(str, child.remote_ts))
            raise ServerRefusedError(f"it carries only {offered}, not all of the route {route} of the profile")


def _covered(route: Network, selectors: Iterable[TrafficSelector]) -> bool:
    wanted = TrafficSelector.from_network(route)
    return any(wanted.is_subset_of(selector) for selector in selectors)


def accepted_dns(
    network: NetworkAttributes, configured: Sequence[Address], routes: Sequence[Network], local: Sequence[Network]
) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
    """The DNS servers to use, and those of the server that are refused: questions to them would not enter the tunnel.

    `local`: the networks that stay outside of the tunnel although `routes` hold them. The profile's own DNS servers have precedence
    over the server's.
    """
    if configured:
        return tuple(configured), ()
    offered = network.dns[:MAX_DNS]
    versions = {address.version for address in network.addresses}
    inside = [
        one
        for one in offered
        if one.version in versions
        and _is_of_a_network(one)
        and one not in network.addresses
        and _routed(one, routes)
        and not _routed(one, local)
    ]
    return tuple(inside), tuple(one for one in offered if one not in inside)


def refused_subnets(network: NetworkAttributes, routes: Sequence[Network]) -> tuple[Network, ...]:
    """The networks that the server announces and the profile does not route: they are not added."""
    return tuple(
        subnet for subnet in network.subnets if not any(contains(route, subnet) for route in routes)
    )  # fmt: skip


def _is_of_a_network(address: Address) -> bool:
    """Whether it is a unicast address that is not one link's or host's own."""
    return not (address.is_loopback or address.is_multicast or address.is_unspecified or address.is_link_local)


def _routed(address: Address, routes: Sequence[Network]) -> bool:
    return any(address in route for route in routes)
