"""`plan`: what a change of policies does to every tunnel of the fleet.

The two levels are those of IKEv2: a change of the child level makes a new CHILD_SA inside the same IKE_SA; a change of
the IKE level makes a new IKE_SA, authenticated again, beside the old one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from warren_contracts.names import PeerId, PolicyId, TunnelName
from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_contracts.tunnel import TunnelConfig, Xfrm
from warren_intent.candidates import Candidate, candidates
from warren_intent.claims import PolicyClaims, apply_claims
from warren_intent.conflicts import Claimant, all_conflicts, claimants_by_peer
from warren_intent.derivation import Derivation
from warren_intent.fleet import Fleet, current

# Fields that a CHILD_SA alone depends on; everything else that is configured belongs to the IKE_SA.
CHILD_FIELDS = ("local_ts", "remote_ts", "esp_proposals", *Xfrm.model_fields)
CHILD_OPTIONS = (
    "mode", "child_rekey_time", "child_life_time", "child_rekey_bytes", "child_life_bytes", "child_rekey_packets",
    "child_life_packets", "dpd_action", "replay_window", "tfc_padding", "ipcomp", "inactivity", "copy_df", "copy_ecn",
    "copy_dscp", "hw_offload", "child_rand_time", "child_rand_bytes", "child_rand_packets",
)  # fmt: skip
# What says whose tunnel it is and who starts it, and reaches no SA.
LABELS = ("name", "policy", "priority", "peer", "initiator", "auto_start")


# Options of IKEv1, which reach no SA of IKEv2.
NO_EFFECT = ("dpd_timeout",)
# Words that mean the same: `yes` became `crypto` in strongSwan 5.9.10.
SAME = {("hw_offload", "yes"): "crypto"}


class Effect(StrEnum):
    """What happens to a live tunnel."""

    UNTOUCHED = "untouched"
    CHILD = "child"
    IKE = "ike"
    NEW = "new"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class TunnelEffect:
    """The effect of a change on one tunnel; `policy` is the one that has it afterwards (before, when it is removed)."""

    name: TunnelName
    peers: tuple[PeerId, ...]
    policy: PolicyId
    effect: Effect


def plan(
    before: Iterable[PublishedPolicy], after: Iterable[PublishedPolicy], directory: Mapping[PeerId, PeerRecord]
) -> tuple[TunnelEffect, ...]:
    """The effect on every tunnel that was or will be, in order of names."""
    old, new = _tunnels(before, directory), _tunnels(after, directory)
    effects = []
    for name in sorted(old.keys() | new.keys()):
        candidate, config = new.get(name) or old[name]
        effect = compare(old[name][1] if name in old else None, new[name][1] if name in new else None)
        effects.append(TunnelEffect(name, tuple(sorted(candidate.peers)), config.policy, effect))
    return tuple(effects)


def compare(before: TunnelConfig | None, after: TunnelConfig | None) -> Effect:
    """The effect on one tunnel at one end; both None has no meaning and is untouched."""
    if before is None or after is None:
        return Effect.UNTOUCHED if before is after else (Effect.NEW if before is None else Effect.REMOVED)
    if before.peer != after.peer or ike_level(before) != ike_level(after):
        return Effect.IKE
    return Effect.UNTOUCHED if child_level(before) == child_level(after) else Effect.CHILD


def child_level(tunnel: TunnelConfig) -> tuple[object, ...]:
    """Everything that the CHILD_SA depends on."""
    fields = (getattr(tunnel, field) for field in CHILD_FIELDS)
    values = ((option, getattr(tunnel.options, option)) for option in CHILD_OPTIONS)
    return (*fields, *(SAME.get(pair, pair[1]) for pair in values))


def ike_level(tunnel: TunnelConfig) -> tuple[object, ...]:
    """Everything that the IKE_SA depends on."""
    apart = {*CHILD_FIELDS, *LABELS, "options"}
    fields = (getattr(tunnel, field) for field in type(tunnel).model_fields if field not in apart)
    options = type(tunnel.options).model_fields
    apart_options = {*CHILD_OPTIONS, *NO_EFFECT}
    return (*fields, *(getattr(tunnel.options, option) for option in options if option not in apart_options))


def _tunnels(
    policies: Iterable[PublishedPolicy], directory: Mapping[PeerId, PeerRecord]
) -> dict[TunnelName, tuple[Candidate, TunnelConfig]]:
    stated = list(policies)
    fleet = Fleet(apply_claims(PolicyClaims(stated), directory)[0])
    derivation = Derivation(fleet)
    pairs: set[tuple[str, str]] = set()
    tunnels: dict[TunnelName, tuple[Candidate, TunnelConfig]] = {}
    claimants: list[Claimant] = []
    for published in current(stated):
        for candidate in candidates(published.policy, fleet):
            if candidate.pair in pairs or candidate.name in tunnels:
                continue
            pairs.add(candidate.pair)
            # Always seen from the same end, so that the order of the two ends in a policy makes no difference.
            me = min(candidate.peers)
            derived = derivation.derive(candidate, me)
            if isinstance(derived, TunnelConfig):
                tunnels[candidate.name] = candidate, derived
                claimants.append(derivation.claimant(candidate, derived, me))
    excluded = all_conflicts(claimants_by_peer(claimants))
    return {name: made for name, made in tunnels.items() if name not in excluded}
