"""`plan`: the effect of a policy change on every tunnel of the fleet.

The two levels are those of IKEv2: a change of the child level creates a new CHILD_SA in the same IKE_SA; a change of the
IKE level creates a new IKE_SA, authenticated again, next to the old one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.plans import Interruption
from warren_contracts.policy import PublishedPolicy
from warren_contracts.tunnel import Tunnel
from warren_intent.fleet_tunnels import FleetTunnels


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
    old = FleetTunnels(before, directory)
    return plan_between(old, FleetTunnels(after, directory, old))


def plan_between(before: FleetTunnels, after: FleetTunnels) -> tuple[TunnelEffect, ...]:
    """The effect on every tunnel of one set or the other, in order of names."""
    old, new = before.tunnels, after.tunnels
    effects = []
    for name in sorted(old.keys() | new.keys()):
        candidate, config = new.get(name) or old[name]
        effect = compare(old[name][1] if name in old else None, new[name][1] if name in new else None)
        effects.append(TunnelEffect(name, tuple(sorted(candidate.peers)), config.policy, effect))
    return tuple(effects)


def compare(before: Tunnel | None, after: Tunnel | None) -> Effect:
    """The effect on one tunnel at one end; untouched if both are None."""
    if before is after:
        return Effect.UNTOUCHED
    if before is None or after is None:
        return Effect.NEW if before is None else Effect.REMOVED
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
