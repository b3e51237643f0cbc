"""`plan`: the effect of a policy change on every tunnel of the fleet.

The two levels are those of IKEv2: a change of the child level creates a new CHILD_SA in the same IKE_SA; a change of the
IKE level creates a new IKE_SA, authenticated again, next to the old one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.plans import Interruption
from warren_contracts.policy import PublishedPolicy
from warren_contracts.tunnel import Tunnel
from warren_intent.candidates import Candidate, candidates
from warren_intent.claims import PolicyClaims, apply_claims
from warren_intent.conflicts import Claimant, all_conflicts, claimants_by_peer
from warren_intent.derivation import Derivation
from warren_intent.fleet import Fleet, current, is_transit


class Effect(StrEnum):
    """Effect on an established tunnel."""

    UNTOUCHED = "untouched"
    CHILD = "child"
    IKE = "ike"
    NEW = "new"
    REMOVED = "removed"


_INTERRUPTIONS = {
    Effect.UNTOUCHED: Interruption.NONE, Effect.CHILD: Interruption.REKEY, Effect.IKE: Interruption.RE_ESTABLISHED,
    Effect.NEW: Interruption.NEW, Effect.REMOVED: Interruption.REMOVED,
}  # fmt: skip
CHILD_UPDATE = "child-update"  # the feature of a driver that changes a CHILD_SA inside its IKE_SA


def interruption(effect: Effect, drivers: Iterable[DriverCapabilities]) -> Interruption:
    """What a change does to the traffic of a tunnel whose ends have these drivers.

    A driver without `child-update` creates a new IKE_SA for a changed child, too; one that reports no features is taken to have it.
    """
    if effect is Effect.CHILD and any(it.features and CHILD_UPDATE not in it.features for it in drivers):
        return Interruption.RE_ESTABLISHED
    return _INTERRUPTIONS[effect]


@dataclass(frozen=True, slots=True)
class TunnelEffect:
    """The effect of a change on one tunnel; `policy` defines it after the change (before it, if removed)."""

    name: TunnelName
    peers: tuple[PeerId, ...]
    policy: PolicyId
    effect: Effect


def plan(
    before: Iterable[PublishedPolicy], after: Iterable[PublishedPolicy], directory: Mapping[PeerId, PeerRecord]
) -> tuple[TunnelEffect, ...]:
    """The effect on every tunnel before or after the change, in order of names."""
    stated = list(before), list(after)
    fleets = [apply_claims(PolicyClaims(policies), directory)[0] for policies in stated]
    derivation = Derivation(Fleet(fleets[0]))
    old = _tunnels(stated[0], derivation)
    # What was resolved of each peer serves both sides, unless a policy's claims take something from a record, or a hub's
    # selectors are the sum of its spokes
    is_shared = fleets[0] is fleets[1] and not any(is_transit(it.policy) for it in chain(*stated))
    new = _tunnels(stated[1], derivation if is_shared else Derivation(Fleet(fleets[1])))
    effects = []
    for name in sorted(old.keys() | new.keys()):
        candidate, config = new.get(name) or old[name]
        effect = compare(old[name][1] if name in old else None, new[name][1] if name in new else None)
        effects.append(TunnelEffect(name, tuple(sorted(candidate.peers)), config.policy, effect))
    return tuple(effects)


def compare(before: Tunnel | None, after: Tunnel | None) -> Effect:
    """The effect on one tunnel at one end; untouched if both are None."""
    if before is None or after is None:
        return Effect.UNTOUCHED if before is after else (Effect.NEW if before is None else Effect.REMOVED)
    if before.peer != after.peer or ike_level(before) != ike_level(after):
        return Effect.IKE
    return Effect.UNTOUCHED if child_level(before) == child_level(after) else Effect.CHILD


def ike_level(tunnel: Tunnel) -> tuple[object, ...]:
    """What the IKE_SA depends on."""
    link = tunnel.link
    return tunnel.local_endpoints, tunnel.remote_endpoints, link.ike, link.local_auth, link.remote_auth


def child_level(tunnel: Tunnel) -> tuple[object, ...]:
    """What the CHILD_SAs depend on."""
    return tunnel.link.children, tunnel.link.xfrm


def _tunnels(policies: Iterable[PublishedPolicy], derivation: Derivation) -> dict[TunnelName, tuple[Candidate, Tunnel]]:
    pairs: set[tuple[str, str]] = set()
    tunnels: dict[TunnelName, tuple[Candidate, Tunnel]] = {}
    claimants: list[Claimant] = []
    for published in current(policies):
        for candidate in candidates(published.policy, derivation.fleet):
            if candidate.pair in pairs or candidate.name in tunnels:
                continue
            pairs.add(candidate.pair)
            # Always seen from the same end, so that the order of the ends in a policy does not matter.
            me = min(candidate.peers)
            derived = derivation.derive(candidate, me)
            if isinstance(derived, Tunnel):
                tunnels[candidate.name] = candidate, derived
                claimants.append(derivation.claimant(candidate, derived, me))
    excluded = all_conflicts(claimants_by_peer(claimants))
    return {name: made for name, made in tunnels.items() if name not in excluded}
