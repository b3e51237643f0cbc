"""From policies to tunnels: `expand(policies, directory, me)`, the same function wherever the question is asked.

Rules, in order:
1. Disabled policies and withdrawn records do not exist. Of one policy the highest revision counts.
2. A tunnel is the same tunnel when its two ends are the same (or its name is): the policy of the higher priority has it;
   within one policy an explicit tunnel stands before the topology's.
3. An end is what its peer announced, unless the policy gives it. An end without public key or subnets has no tunnel.
4. Exactly one end initiates, and it can only when the other has an address: the spoke, else the end without a fixed
   address, else the lower peer id. A foreign end is called when it has an address, and waited for when it has none.
5. Proposals that an end's driver cannot express are left out at both ends.
6. Of two tunnels of one peer that claim the same traffic, or the same identity at the other end, one is left out, at both
   its ends: see `conflicts`. What lies beyond a hub in transit is no claim.
7. Both ends derive the same thing, seen from the other side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from warren_contracts.addresses import IPNetwork
from warren_contracts.identities import canonical
from warren_contracts.names import PeerId, TunnelName
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_contracts.tunnel import Identity, TunnelConfig
from warren_intent.candidates import Candidate, select_winners
from warren_intent.conflicts import Claimant, Conflict, conflicts_at, mirrored
from warren_intent.derivation import Derivation, SkipCode, Skipped, skip
from warren_intent.fleet import Fleet, current
from warren_intent.overlaps import Ranges


@dataclass(frozen=True, slots=True)
class Expansion:
    """What policies come to for one peer."""

    tunnels: tuple[TunnelConfig, ...]
    skipped: tuple[Skipped, ...]


def expand(
    policies: Iterable[PublishedPolicy], directory: Mapping[PeerId, PeerRecord], me: PeerId
) -> tuple[TunnelConfig, ...]:
    """The tunnels of `me`, in order of names. Never raises: what cannot be derived is told by `explain`."""
    return explain(policies, directory, me).tunnels


def explain(policies: Iterable[PublishedPolicy], directory: Mapping[PeerId, PeerRecord], me: PeerId) -> Expansion:
    """The tunnels of `me`, and the ones that policies ask for in vain, both in order of names."""
    fleet = Fleet(directory)
    intent = current(policies)
    winners, losers = select_winners(intent, fleet, me)
    derivation = Derivation(fleet)
    made: list[tuple[Candidate, TunnelConfig]] = []
    skipped = [
        Skipped(
            it.name, it.policy.id, it.path, SkipCode.OVERRIDDEN, "a policy that comes first has this tunnel", it.peers
        )
        for it in losers
    ]
    for candidate in winners:
        derived = derivation.derive(candidate, me)
        if isinstance(derived, Skipped):
            skipped.append(derived)
        else:
            made.append((candidate, derived))
    claimants = [derivation.claimant(candidate, tunnel, me) for candidate, tunnel in made]
    excluded = NeighbourConflicts(intent, fleet, derivation).conflicts_at(me, claimants)
    skipped += [
        skip_conflict(candidate, excluded[tunnel.name]) for candidate, tunnel in made if tunnel.name in excluded
    ]
    tunnels = sorted((tunnel for _, tunnel in made if tunnel.name not in excluded), key=lambda it: it.name)
    skipped.sort(key=lambda it: (it.name, it.policy, it.path))
    return Expansion(tuple(tunnels), tuple(skipped))


def skip_conflict(candidate: Candidate, conflict: Conflict) -> Skipped:
    """A tunnel that comes second to another one of one of its ends."""
    what = "names the same identity" if conflict.same_identity else "claims the same traffic"
    message = f"at peer {conflict.at} the tunnel {conflict.winner.tunnel.name} {what} and comes first"
    return skip(candidate, "", SkipCode.CONFLICT, message)


class NeighbourConflicts:
    """Who may contest the tunnels of a peer at their other ends, where tunnels of third parties meet them."""

    def __init__(self, policies: list[PublishedPolicy], fleet: Fleet, derivation: Derivation) -> None:
        self._policies = policies
        self._fleet = fleet
        self._derivation = derivation

    def conflicts_at(self, me: PeerId, mine: list[Claimant]) -> dict[TunnelName, Conflict]:
        """Which of all tunnels of `me` are left out."""
        found = conflicts_at(me, mine)
        rivals, foreign = self._rivals(me, mine)
        if not (rivals or foreign):
            return found
        for candidate, tunnel in mine:
            if tunnel.peer is None or tunnel.name in found:
                continue
            excluded = conflicts_at(
                tunnel.peer, [*self._tunnels_of(tunnel.peer, rivals, me), Claimant(candidate, mirrored(tunnel, me))]
            )
            if tunnel.name in excluded:
                found[tunnel.name] = excluded[tunnel.name]
        return found

    def _tunnels_of(self, peer: PeerId, rivals: frozenset[PeerId], me: PeerId) -> Iterable[Claimant]:
        for candidate in select_winners(self._policies, self._fleet, peer, rivals)[0]:
            if me in candidate.peers:
                continue
            derived = self._derivation.derive(candidate, peer)
            if isinstance(derived, TunnelConfig):
                yield self._derivation.claimant(candidate, derived, peer)

    def _rivals(self, me: PeerId, mine: list[Claimant]) -> tuple[frozenset[PeerId], bool]:
        """Peers whose networks or identity are also mine, and whether a policy gives such to anybody.

        Who is not among them presents nothing that I present, so no tunnel of theirs contests one of mine at its other end.
        """
        presented = {id(tunnel.local_ts): tunnel.local_ts for _, tunnel in mine}  # a hub's are all the same object
        claims = Ranges(network for networks in presented.values() for network in networks)
        names = {canonical(name) for name in {tunnel.local_auth.identity for _, tunnel in mine}}

        def touches(networks: Iterable[IPNetwork], identity: Identity | None) -> bool:
            if identity is not None and canonical(identity) in names:
                return True
            return any(map(claims.touch, networks))

        found = {
            peer for peer, record in self._fleet.records.items()
            if peer != me and touches(record.subnets, record.identity)
        }  # fmt: skip
        given = False
        for published in self._policies:
            for spec in published.policy.tunnels:
                for end in spec.ends:
                    if end.peer != me and (end.subnets or end.identity) and touches(end.subnets, end.identity):
                        given = True
                        found |= {end.peer} if end.peer is not None else set()
        return frozenset(found), given
