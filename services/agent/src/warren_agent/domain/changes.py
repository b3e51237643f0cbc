"""Changes of tunnels that can be taken back: by tunnel, and all of one intent (commit-confirm). Pure.

A change of a tunnel is new configuration in place of a former one; either may be none. It goes through these phases:

| phase | in force | means |
|---|---|---|
| applied | new | nothing is missing but the confirmation by the bus |
| trial | new | the former one carried traffic, and the new one has to come up in time |
| fallback | former | the new one did not, and the former one has to show that it still works |
| held | former | it works (or the new one cut the bus off): the new one is not applied until it is superseded |
| final | new | neither came up, as with a dead peer: the new one stays |

Both ends of a tunnel make the same change, and each decides by itself. If both fall back, they do so at nearly the same time,
and meet on the former configuration; each has as long for it as for the new one. If only one does, its former configuration
does not come up, and it returns to the new one for good. If the other end gets the change later than that (it was offline),
it negotiates what this end does not accept: then this end tries the new one once more.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from warren_contracts.protection import ProtectedTraffic
from warren_contracts.status import ReasonCode
from warren_contracts.tunnel import Tunnel
from warren_intent.protection import protected_by

MAX_PAIRS = 16  # of ProtectedTraffic.pairs
NONE = ""  # the fingerprint of no tunnel
# s; a bus that is lost at the end of the time for the confirmation must have been lost this long
LOSS_LIMIT = 10.0
# Failures of a negotiation that say that the other end has another configuration.
DIFFERENT = frozenset(
    {ReasonCode.PROPOSAL_MISMATCH_IKE, ReasonCode.PROPOSAL_MISMATCH_CHILD, ReasonCode.TS_MISMATCH}
)  # fmt: skip


class ChangePhase(StrEnum):
    """Phase of one change; the words are those of the file."""

    APPLIED = "applied"
    TRIAL = "trial"
    FALLBACK = "fallback"
    HELD = "held"
    FINAL = "final"


class Occurrence(StrEnum):
    """What happened to a change."""

    CONVERGED = "converged"  # the tunnel is up on what is in force
    EXPIRED = "expired"  # it did not come up in time
    PEER_DIFFERS = "peer-differs"  # the other end negotiates something else than the former configuration
    CUT_OFF = "cut-off"  # the bus was lost
    CONFIRMED = "confirmed"  # the bus was there all the time, or is back


# A pair that is not listed changes nothing. None: the change is over.
TRANSITIONS: dict[tuple[ChangePhase, Occurrence], ChangePhase | None] = {
    (ChangePhase.APPLIED, Occurrence.CONFIRMED): None,
    (ChangePhase.APPLIED, Occurrence.CUT_OFF): ChangePhase.HELD,
    (ChangePhase.TRIAL, Occurrence.CONVERGED): ChangePhase.APPLIED,
    (ChangePhase.TRIAL, Occurrence.EXPIRED): ChangePhase.FALLBACK,
    (ChangePhase.TRIAL, Occurrence.CUT_OFF): ChangePhase.HELD,
    (ChangePhase.FALLBACK, Occurrence.CONVERGED): ChangePhase.HELD,
    (ChangePhase.FALLBACK, Occurrence.EXPIRED): ChangePhase.FINAL,
    (ChangePhase.FALLBACK, Occurrence.CUT_OFF): ChangePhase.HELD,
    (ChangePhase.HELD, Occurrence.PEER_DIFFERS): ChangePhase.TRIAL,
    (ChangePhase.FINAL, Occurrence.CONVERGED): ChangePhase.APPLIED,
    (ChangePhase.FINAL, Occurrence.CUT_OFF): ChangePhase.HELD,
}
TIMED = frozenset({ChangePhase.TRIAL, ChangePhase.FALLBACK})
ROLLED_BACK = frozenset({ChangePhase.FALLBACK, ChangePhase.HELD})


@dataclass(frozen=True, slots=True)
class PendingChange:
    """One change. `refused` is the fingerprint of the new configuration, which `version` states: (epoch, revision of its policy,
    for a deletion of the intent)."""

    name: str
    former: Tunnel | None
    refused: str
    version: tuple[int, int]
    phase: ChangePhase
    retried: bool = False
    detail: str = ""


def advance(change: PendingChange, occurrence: Occurrence, detail: str = "") -> PendingChange | None:
    """The change afterwards, None if it is over. `detail` is why it is rolled back."""
    if occurrence is Occurrence.PEER_DIFFERS and change.retried:
        return change
    phase = TRANSITIONS.get((change.phase, occurrence), change.phase)
    if phase is None:
        return None
    retried = change.retried or occurrence in (Occurrence.PEER_DIFFERS, Occurrence.CUT_OFF)
    return replace(change, phase=phase, retried=retried, detail=detail or change.detail)


def fingerprint(tunnel: Tunnel | None) -> str:
    """Equal for equal configurations, also of different runs."""
    return NONE if tunnel is None else hashlib.sha256(repr(tunnel).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Versions:
    """What an intent says of its age: its epoch, its revision, and the revisions of its policies."""

    epoch: int
    revision: int
    policies: Mapping[str, int]

    def of(self, tunnel: Tunnel | None) -> tuple[int, int]:
        """The version of a tunnel's configuration, or of its absence."""
        return self.epoch, self.revision if tunnel is None else self.policies.get(tunnel.policy, self.revision)


Changes = Mapping[str, PendingChange]


def current(changes: Changes, derived: Mapping[str, Tunnel], versions: Versions) -> dict[str, PendingChange]:
    """The changes but those that were rolled back and are superseded: by other configuration, or a newer revision of the policy."""
    return {
        name: change
        for name, change in changes.items()
        if change.phase in (ChangePhase.APPLIED, ChangePhase.TRIAL)
        or not _is_superseded(change, derived.get(name), versions)
    }


def _is_superseded(change: PendingChange, derived: Tunnel | None, versions: Versions) -> bool:
    return fingerprint(derived) != change.refused or versions.of(derived) > change.version


def in_effect(changes: Changes, derived: Iterable[Tunnel]) -> tuple[Tunnel, ...]:
    """The tunnels that are to be in force: the derived ones, and the former configuration of those that are rolled back."""
    tunnels = {tunnel.name: tunnel for tunnel in derived}
    for name, change in changes.items():
        if change.phase in ROLLED_BACK:
            tunnels.pop(name, None)
            if change.former is not None:
                tunnels[name] = change.former
    return tuple(sorted(tunnels.values(), key=lambda it: it.name))


def also_protected(protected: Sequence[ProtectedTraffic], former: Iterable[Tunnel]) -> tuple[ProtectedTraffic, ...]:
    """The protected traffic of an intent, and that of the former configurations in force."""
    found = {entry.key: entry for entry in protected}
    for traffic in filter(None, map(protected_by, former)):
        known = found.get(traffic.key)
        if known is None:
            found[traffic.key] = traffic
            continue
        pairs = (*known.pairs, *(pair for pair in traffic.pairs if pair not in known.pairs))[:MAX_PAIRS]
        found[traffic.key] = known.model_copy(update={"pairs": pairs})
    return (
        tuple(found.values()) if len(found) == len(protected) else tuple(sorted(found.values(), key=lambda it: it.key))
    )


def begin(
    changes: Changes, before: Mapping[str, Tunnel], after: Mapping[str, Tunnel], versions: Versions, up: Iterable[str]
) -> dict[str, PendingChange]:
    """All changes, with those that lead from the tunnels in force `before` to those `after`; `up` are tunnels that carry traffic.

    A change that is not confirmed yet keeps what it would be taken back to. A tunnel that nobody starts is not tried.
    """
    found, carrying = dict(changes), frozenset(up)
    for name in before.keys() | after.keys():
        old, new, known = before.get(name), after.get(name), changes.get(name)
        if old == new or (
            known is not None and known.phase in (ChangePhase.FALLBACK, ChangePhase.HELD, ChangePhase.FINAL)
        ):
            continue
        if known is not None and known.former == new:
            del found[name]  # it was taken back by the operator
            continue
        former = old if known is None else known.former
        is_tried = former is not None and new is not None and new.auto_start and name in carrying
        still_tried = new is not None and known is not None and known.phase is ChangePhase.TRIAL
        phase = ChangePhase.TRIAL if is_tried or still_tried else ChangePhase.APPLIED
        refused = fingerprint(new)
        retried = known is not None and known.retried and known.refused == refused
        found[name] = PendingChange(name, former, refused, versions.of(new), phase, retried)
    return found


class ChangeVerdict(StrEnum):
    """Whether a change of the intent is confirmed."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    CUT_OFF = "cut-off"


@dataclass(frozen=True, slots=True)
class Window:
    """The time in which a change has to be confirmed (monotonic s), and since when the bus is lost in it."""

    deadline: float
    lost_since: float | None = None


def observe(window: Window, answers: bool, now: float) -> Window:
    """The window after the bus was asked for an answer."""
    if answers:
        return replace(window, lost_since=None)
    return window if window.lost_since is not None else replace(window, lost_since=now)


def verdict(window: Window, now: float) -> ChangeVerdict:
    """What is known at this moment. A loss that just began is waited for LOSS_LIMIT."""
    if now < window.deadline:
        return ChangeVerdict.OPEN
    if window.lost_since is None:
        return ChangeVerdict.CONFIRMED
    return ChangeVerdict.CUT_OFF if now - window.lost_since >= LOSS_LIMIT else ChangeVerdict.OPEN
