"""Transit: the selectors of a hub through which its spokes reach each other."""

from typing import Any

from warren_contracts.addresses import IPNetwork
from warren_contracts.networks import merged, overlap
from warren_contracts.policy import HubSpoke
from warren_intent.candidates import Candidate
from warren_intent.fleet import Fleet

_LIMIT = 1_024  # collapsed networks of all spokes: far more than selectors can hold; bounds the work


def too_many(limit: int) -> str:
    return (
        f"one side of the tunnel needs more than {limit} selectors: use spoke subnets that can be aggregated, "
        "or disable `transit`"
    )


class Transit:
    """The aggregated subnets of all spokes and their pools of virtual addresses, cached for each policy."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._sums: dict[str, tuple[IPNetwork, ...]] = {}

    def hub_subnets(
        self, candidate: Candidate, hub: tuple[IPNetwork, ...], spoke: tuple[IPNetwork, ...]
    ) -> tuple[IPNetwork, ...]:
        """The selectors of the first end: its own subnets, and for a transit hub those of all other spokes."""
        topology = candidate.policy.topology
        if candidate.path != "topology" or not isinstance(topology, HubSpoke) or not topology.transit:
            return hub
        others = self._all_spokes(candidate.policy.id, topology)
        if len(others) > _LIMIT:
            return others
        for subnet in spoke:
            others = tuple(part for network in others for part in _without(network, subnet))
        return merged((*hub, *others))

    def _all_spokes(self, policy: str, topology: HubSpoke) -> tuple[IPNetwork, ...]:
        if policy not in self._sums:
            peers = self._fleet.members.of(topology.spokes)
            records = (self._fleet.records[peer] for peer in peers)
            networks = {net for record in records for net in record.subnets} | set(topology.pools)
            self._sums[policy] = merged(networks)
        return self._sums[policy]


def _without(network: IPNetwork, taken: IPNetwork) -> tuple[IPNetwork, ...]:
    if not overlap(network, taken):
        return (network,)
    excluded: Any = network  # `address_exclude` is typed for one version; both are equal, as they overlap
    return tuple(excluded.address_exclude(taken)) if network.prefixlen <= taken.prefixlen else ()
