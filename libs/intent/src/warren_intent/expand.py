"""Derive tunnels from policies: `expand(policies, directory, me)`.

Rules, in order:
1. Disabled policies and withdrawn records are ignored. The highest revision of a policy is used.
2. Tunnels with the same two ends (or the same name) are the same tunnel: the policy of the higher priority defines it;
   within one policy an explicit tunnel takes precedence over the topology's.
3. An end has the values that its peer announced, unless the policy sets them. It needs a public key and subnets.
4. Exactly one end initiates, and the other must have an address: the spoke, else the end without a fixed address, else
   the lower peer id. With a foreign gateway, the peer initiates if the gateway has an address, else it responds.
5. Proposals that the driver of one end does not support are removed at both ends.
6. Of two tunnels of one peer that claim the same traffic, or the same identity at the other end, one is removed, at both
   its ends: see `conflicts`, also for those that may claim the same. Networks beyond a transit hub are not claimed.
   The end that has tunnels to redundant gateways initiates them and decides which one is used.
7. Both ends derive the same tunnel, mirrored.
8. What a requested tunnel protects is known as soon as the networks of its ends are, derived or not: see `protection`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from warren_contracts.addresses import IPNetwork
from warren_contracts.identities import Identity, canonical
from warren_contracts.names import PeerId, TunnelName
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import Policy, PublishedPolicy, TunnelSpec
from warren_contracts.protection import ProtectedTraffic
from warren_contracts.selectors import TrafficSelector, networks_of
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate, select_winners
from warren_intent.conflicts import Claimant, Conflict, conflicts_at, mirrored, standbys_at
from warren_intent.derivation import Derivation, SkipCode, Skipped, skip
from warren_intent.fleet import Fleet, current
from warren_intent.overlaps import Ranges
from warren_intent.protection import protected_by, protected_without_tunnel


@dataclass(frozen=True, slots=True)
class Expansion:
    """Derived and skipped tunnels of one peer."""

    tunnels: tuple[Tunnel, ...]
    skipped: tuple[Skipped, ...]
    protected: tuple[ProtectedTraffic, ...] = ()  # also of requested tunnels that were not derived
    # Tunnels that the other end starts only while another one of its own, the value, does not work.
    standbys_of_peers: Mapping[TunnelName, TunnelName] = field(default_factory=dict)


def expand(
    policies: Iterable[PublishedPolicy], directory: Mapping[PeerId, PeerRecord], me: PeerId
) -> tuple[Tunnel, ...]:
    """The tunnels of `me`, in order of names. Never raises; `explain` gives the reasons for missing tunnels."""
    return explain(policies, directory, me).tunnels


def explain(policies: Iterable[PublishedPolicy], directory: Mapping[PeerId, PeerRecord], me: PeerId) -> Expansion:
    """The tunnels of `me`, and the requested ones that were not derived, both in order of names."""
    fleet = Fleet(directory)
    intent = current(policies)
    winners, losers = select_winners(intent, fleet, me)
    derivation = Derivation(fleet)
    made: list[tuple[Candidate, Tunnel]] = []
    skipped = [overridden(it) for it in losers]
    protected: list[ProtectedTraffic | None] = []
    for candidate in winners:
        derived = derivation.derive(candidate, me)
        if isinstance(derived, Skipped):
            skipped.append(derived)
            protected.append(protected_without_tunnel(candidate, fleet, me))
        else:
            made.append((candidate, derived))
            protected.append(protected_by(derived))
    claimants = [derivation.claimant(candidate, tunnel, me) for candidate, tunnel in made]
    neighbours = NeighbourConflicts(intent, fleet, derivation)
    excluded = neighbours.conflicts_at(me, claimants)
    skipped += [
        skip_conflict(candidate, excluded[tunnel.name]) for candidate, tunnel in made if tunnel.name in excluded
    ]
    tunnels = sorted(
        _with_standbys([tunnel for _, tunnel in made if tunnel.name not in excluded], claimants), key=lambda it: it.name
    )
    skipped.sort(key=lambda it: (it.name, it.policy, it.path))
    traffic = sorted((entry for entry in protected if entry is not None), key=lambda it: (it.tunnel, it.policy))
    return Expansion(tuple(tunnels), tuple(skipped), tuple(traffic), neighbours.standbys)


def _with_standbys(tunnels: list[Tunnel], claimants: list[Claimant]) -> list[Tunnel]:
    """Mark the tunnels that are started only while others do not work."""
    names = {tunnel.name for tunnel in tunnels}
    standbys = standbys_at([claimant for claimant in claimants if claimant.tunnel.name in names])
    if not standbys:
        return tunnels
    return [
        tunnel.model_copy(update={"standby_of": standbys[tunnel.name]}) if tunnel.name in standbys else tunnel
        for tunnel in tunnels
    ]


def overridden(candidate: Candidate) -> Skipped:
    """Report a tunnel that another policy, or another entry of the same one, defines."""
    return skip(candidate, "", SkipCode.OVERRIDDEN, "a policy with precedence defines this tunnel")


def skip_conflict(candidate: Candidate, conflict: Conflict) -> Skipped:
    """Report a tunnel that loses a conflict at one of its ends."""
    what = "names the same identity" if conflict.same_identity else "claims the same traffic"
    message = f"at peer {conflict.at} the tunnel {conflict.winner.tunnel.name} {what} and takes precedence"
    return skip(candidate, "", SkipCode.CONFLICT, message)


class NeighbourConflicts:
    """Conflicts of a peer's tunnels at their other ends, with tunnels of third peers."""

    def __init__(self, policies: list[PublishedPolicy], fleet: Fleet, derivation: Derivation) -> None:
        self._policies = policies
        self._fleet = fleet
        self._derivation = derivation
        self.standbys: dict[TunnelName, TunnelName] = {}  # what `conflicts_at` has found besides

    def conflicts_at(self, me: PeerId, mine: list[Claimant]) -> dict[TunnelName, Conflict]:
        """The tunnels of `me` that lose a conflict. Those that the other end only keeps as standbys are noted."""
        found = conflicts_at(me, mine)
        presented = Presented.by(mine)
        rivals, is_given = self.rivals(me, presented)
        if not (rivals or is_given):
            return found
        for claimant in mine:
            name = claimant.tunnel.name
            if name in found:
                continue
            conflict, preferred = self.at_other_end(me, claimant, rivals)
            if conflict is not None:
                found[name] = conflict
            elif preferred is not None:
                self.standbys[name] = preferred
        return found

    def at_other_end(
        self, me: PeerId, claimant: Claimant, rivals: frozenset[PeerId]
    ) -> tuple[Conflict | None, TunnelName | None]:
        """The conflict that a tunnel loses at its other end, or the tunnel that this end prefers to it."""
        tunnel = claimant.tunnel
        if tunnel.peer is None:
            return None, None
        at_peer = [*self._tunnels_of(tunnel.peer, rivals, me), mirrored(claimant, me)]
        excluded = conflicts_at(tunnel.peer, at_peer)
        if tunnel.name in excluded:
            return excluded[tunnel.name], None
        if tunnel.initiator:
            return None, None
        preferred = standbys_at(at_peer).get(tunnel.name)
        return None, preferred[0] if preferred else None

    def _tunnels_of(self, peer: PeerId, rivals: frozenset[PeerId], me: PeerId) -> Iterable[Claimant]:
        for candidate in select_winners(self._policies, self._fleet, peer, rivals)[0]:
            if me in candidate.peers:
                continue
            derived = self._derivation.derive(candidate, peer)
            if isinstance(derived, Tunnel):
                yield self._derivation.claimant(candidate, derived, peer)

    def rivals(self, me: PeerId, presented: "Presented") -> tuple[frozenset[PeerId], bool]:
        """Peers whose networks or identity overlap those of `me`, and whether a policy sets such values for any end.

        The tunnels of all other peers cannot conflict with those of `me` at their other ends.
        """
        found = {
            peer for peer, record in self._fleet.records.items()
            if peer != me and presented.touches(record.subnets, record.identity)
        }  # fmt: skip
        given = False
        for published in self._policies:
            for spec in published.policy.tunnels:
                for position, end in enumerate(spec.ends):
                    networks = (*end.subnets, *_stated_networks(published.policy, spec, position))
                    if end.peer != me and (networks or end.identity) and presented.touches(networks, end.identity):
                        given = True
                        found |= {end.peer} if end.peer is not None else set()
        return frozenset(found), given


class Presented:
    """The networks and the identities that a peer presents in its tunnels."""

    def __init__(self, selectors: Iterable[tuple[TrafficSelector, ...]], identities: Iterable[Identity]) -> None:
        self._claims = Ranges(network for listed in selectors for network in networks_of(listed))
        self._names = {canonical(name) for name in identities}

    @classmethod
    def by(cls, mine: Iterable[Claimant]) -> "Presented":
        """What these tunnels present."""
        listed = list(mine)
        # a hub's are all the same object
        selectors = {id(child.local_ts): child.local_ts for it in listed for child in it.tunnel.link.children}
        return cls(selectors.values(), {it.tunnel.link.local_auth.identity for it in listed})

    def touches(self, networks: Iterable[IPNetwork], identity: Identity | None) -> bool:
        """Whether another end has one of the identities, or networks that overlap."""
        if identity is not None and canonical(identity) in self._names:
            return True
        return any(map(self._claims.touch, networks))


def _stated_networks(policy: Policy, spec: TunnelSpec, position: int) -> tuple[IPNetwork, ...]:
    """The networks that the children of an explicit tunnel state for one end."""
    children = spec.children or policy.children
    return tuple(network for child in children for network in networks_of(child.ts[position]))
