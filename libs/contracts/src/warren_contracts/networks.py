"""How networks of any IP version relate. The methods of `ipaddress` compare networks of one version only, and are typed so."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from warren_contracts.addresses import IPNetwork


def contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    """Whether every address of `inner` is in `outer`."""
    return outer.version == inner.version and outer.prefixlen <= inner.prefixlen and inner.network_address in outer


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Whether two networks share an address."""
    return one.network_address in other or other.network_address in one


def merged(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """The fewest networks with exactly these addresses, IPv4 first: `0.0.0.0/1` and `128.0.0.0/1` are `0.0.0.0/0`."""
    given = tuple(networks)
    return (
        *collapse_addresses(it for it in given if isinstance(it, IPv4Network)),
        *collapse_addresses(it for it in given if isinstance(it, IPv6Network)),
    )
