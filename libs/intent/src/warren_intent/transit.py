"""Transit: what a hub's selectors hold so that its spokes reach each other through it."""

from ipaddress import collapse_addresses
from typing import Any

from warren_contracts.addresses import IPNetwork
from warren_contracts.policy import HubSpoke
from warren_intent.candidates import Candidate
from warren_intent.fleet import Fleet

_LIMIT = 1_024  # collapsed networks of all spokes: far beyond what selectors can hold, and the bound of the work


def too_many(limit: int) -> str:
    return (
        f"one side of the tunnel would need more than {limit} selectors: give the spokes subnets that can be summed up, "
        "or do without `transit`"
    )


class Transit:
    """The subnets of all spokes of a policy, summed up once a policy."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._sums: dict[str, tuple[IPNetwork, ...]] = {}

    def hub_subnets(
        self, candidate: Candidate, hub: tuple[IPNetwork, ...], spoke: tuple[IPNetwork, ...]
    ) -> tuple[IPNetwork, ...]:
        """The selectors of the first end: its own subnets, and for a hub in transit those of all spokes but this one."""
        topology = candidate.policy.topology
        if candidate.path != "topology" or not isinstance(topology, HubSpoke) or not topology.transit:
            return hub
        others = self._all_spokes(candidate.policy.id, topology)
        if len(others) > _LIMIT:
            return others
        for subnet in spoke:
            others = tuple(part for network in others for part in _without(network, subnet))
        return _collapse((*hub, *others))

    def _all_spokes(self, policy: str, topology: HubSpoke) -> tuple[IPNetwork, ...]:
        if policy not in self._sums:
            peers = self._fleet.members.of(topology.spokes)
            records = (self._fleet.records[peer] for peer in peers)
            self._sums[policy] = _collapse(tuple({net for record in records for net in record.subnets}))
        return self._sums[policy]


def _without(network: IPNetwork, taken: IPNetwork) -> tuple[IPNetwork, ...]:
    if network.version != taken.version or not network.overlaps(taken):
        return (network,)
    excluded: Any = (
        network  # `address_exclude` is declared for each version by itself; `overlaps` said that they are one
    )
    return tuple(excluded.address_exclude(taken)) if network.prefixlen <= taken.prefixlen else ()


def _collapse(networks: tuple[IPNetwork, ...]) -> tuple[IPNetwork, ...]:
    return (
        *collapse_addresses(net for net in networks if net.version == 4),
        *collapse_addresses(net for net in networks if net.version == 6),
    )
