"""Which changes a tunnel needs. Pure.

Routes: a table of our own, chosen by rules (policy routing), in full and in split tunnel. The main table is never touched, so
that a network manager may replace the default route or the host may change its network meanwhile, and putting back means
to delete what is ours. Two half-default routes with a host route to the server would have to follow each change of
the gateway, and would send every packet to the server's address in clear. A firewall mark on the sockets would need `rp_filter`
to be loosened; rules for the servers' UDP ports in both directions need neither, and nothing but IKE and ESP matches them.

Priorities: the servers' own ports, and questions for their names, by the main table; then the host's local networks by the main
table; then our table.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from typing import Literal

from warren_contracts.networks import contains
from warren_vpn.host.changes import (
    MAIN_TABLE,
    Address,
    AddressChange,
    Change,
    Interface,
    KillSwitchChange,
    Network,
    Passage,
    RouteChange,
    RuleChange,
    without_zone,
)

TABLE = 5187
DNS_PORT = 53
SERVER_PRIORITY, LOCAL_PRIORITY, TUNNEL_PRIORITY = 5180, 5181, 5182

_PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
        "fe80::/10",
    )
)
"""A local network counts as local in full tunnel only if it lies in one of these (RFC 1918, 3927, 6598, 4193, 4291): an access
point that hands out a public network could otherwise take the traffic to it out of the tunnel (CVE-2023-36672)."""

KillSwitch = Literal["off", "when-up", "always"]


@dataclass(frozen=True, slots=True)
class ServerEndpoint:
    """A server's address and its UDP ports."""

    address: Address
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TunnelPlan:
    """What the tunnel is, independent of what the host has at present."""

    device: str
    routes: tuple[Network, ...]
    addresses: tuple[Address, ...]
    """Ours inside the tunnel."""

    @property
    def is_full(self) -> bool:
        """Whether all traffic of one IP version goes through the tunnel."""
        return any(network.prefixlen == 0 for network in self.routes)


def server_rules(endpoints: Iterable[ServerEndpoint]) -> Iterator[RuleChange]:
    """IKE and ESP go around the tunnel. The second rule of each port is for the reverse path check of strict `rp_filter`, which
    looks up the packet's source with its ports as they are, or exchanged, depending on the kernel."""
    for endpoint in endpoints:
        for port in endpoint.ports:
            target = {"to": ip_network(endpoint.address), "version": endpoint.address.version}
            yield RuleChange(priority=SERVER_PRIORITY, table=MAIN_TABLE, remote_port=port, **target)
            yield RuleChange(priority=SERVER_PRIORITY, table=MAIN_TABLE, local_port=port, **target)


def question_rules(passages: Iterable[Passage]) -> Iterator[RuleChange]:
    """Questions for the servers' names go around the tunnel, and nothing else to these DNS servers; both rules as of `server_rules`."""
    for server, port in passages:
        for remote, local in ((DNS_PORT, port), (port, DNS_PORT)):
            yield RuleChange(
                version=server.version, priority=SERVER_PRIORITY, table=MAIN_TABLE, to=ip_network(without_zone(server)),
                remote_port=remote, local_port=local,
            )  # fmt: skip


def tunnel_changes(plan: TunnelPlan, local: Sequence[Network]) -> list[Change]:
    """Addresses, routes and rules, in the order in which they are made: rules last, so that no packet finds an empty table.

    A route of an IP version that the server gave no address of becomes unreachable: it would leave in clear otherwise.
    """
    source = {address.version: address for address in plan.addresses}
    changes: list[Change] = [
        AddressChange(device=plan.device, address=ip_interface(address)) for address in plan.addresses
    ]
    for network in plan.routes:
        own = source.get(network.version)
        device = plan.device if own is not None else None
        changes.append(RouteChange(network=network, table=TABLE, device=device, source=own))
    changes += [
        RuleChange(version=network.version, priority=LOCAL_PRIORITY, table=MAIN_TABLE, to=network) for network in local
    ]
    for version in sorted({network.version for network in plan.routes}):
        changes.append(RuleChange(version=version, priority=TUNNEL_PRIORITY, table=TABLE))
    return changes


def local_networks(interfaces: Iterable[Interface], routes: Sequence[Network], *, strict: bool) -> tuple[Network, ...]:
    """The networks of the host's own links that stay reachable although `routes` hold them.

    In full tunnel only private ones, and none if `strict` (with the kill switch).
    """
    found: set[Network] = set()
    for interface in interfaces:
        network = interface.network
        around = [route for route in routes if contains(route, network)]
        if not around or interface.ip.is_loopback or network.prefixlen == network.max_prefixlen:
            continue
        narrow = any(route.prefixlen for route in around)
        private = any(contains(block, network) for block in _PRIVATE)
        if narrow or (private and not strict):
            found.add(network)
    return tuple(sorted(found, key=lambda network: (network.version, network)))


def kill_switch_change(
    device: str,
    endpoints: Iterable[ServerEndpoint],
    routes: Sequence[Network],
    local: Sequence[Network],
    mode: KillSwitch,
    questions: tuple[Passage, ...] = (),
) -> KillSwitchChange | None:
    """The kill switch of a profile with these routes; None if it is off."""
    if mode == "off":
        return None
    servers = tuple((endpoint.address, port) for endpoint in endpoints for port in endpoint.ports)
    return KillSwitchChange(
        device=device, servers=servers, protected=tuple(routes), local=tuple(local), questions=questions,
        lasting=mode == "always",
    )  # fmt: skip
