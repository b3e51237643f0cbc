"""The plan of a command: what it changes field by field, its effect on each tunnel, and a digest that binds all of it.

The digest covers the epoch and revision that the plan was made from, the policies as they would be stored, and the effect on every
tunnel. A change that states it makes exactly this plan, or is refused.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from warren_contracts.commands import TunnelEffects
from warren_contracts.pages import fit_page
from warren_contracts.peers import PeerRecord
from warren_contracts.plan_mark import PlanMark
from warren_contracts.plans import FieldChange, PlannedPolicy, PlannedTunnel, PolicyPlan
from warren_contracts.problems import InvalidField
from warren_intent.derivation import IPSEC
from warren_intent.plan import Effect, TunnelEffect, interruption, plan_between
from warren_intent.policy_diff import changes
from warren_policy.domain.derived import DerivedChange
from warren_policy.domain.revisions import PolicySnapshot, RevisionChange
from warren_policy.errors import PlanMovedError

# A reply must fit into one message (1 MB): 500 fields of at most 600 bytes, 1,000 policies of 150, tunnels of 350 kB.
MAX_CHANGES = 500
MAX_VALUE = 256  # characters of one value
MAX_TUNNELS_BYTES = 350_000


@dataclass(frozen=True, slots=True)
class WholePlan:
    """A plan with all touched tunnels, of which replies hold a page each."""

    plan: PolicyPlan
    tunnels: tuple[PlannedTunnel, ...]

    def page(self, after: str, limit: int) -> PolicyPlan:
        """The plan with the touched tunnels after a name."""
        rest = [tunnel for tunnel in self.tunnels if tunnel.name > after]
        shown = fit_page(rest[:limit], MAX_TUNNELS_BYTES)
        more = len(rest) > len(shown)
        return self.plan.model_copy(update={"tunnels": shown, "next_after": shown[-1].name if more else None})


def make_plan(
    snapshot: PolicySnapshot, change: RevisionChange, derived: DerivedChange, warnings: tuple[InvalidField, ...]
) -> WholePlan:
    """The plan of a change that was computed from `snapshot`."""
    effects = plan_between(derived.before, derived.after) if change.changed else ()
    touched = tuple(_tunnel(effect, derived.records) for effect in effects if effect.effect is not Effect.UNTOUCHED)
    untouched = len(effects) - len(touched)
    interruptions = Counter(tunnel.interruption for tunnel in touched)
    counts = Counter[str](tunnel.effect for tunnel in touched)
    whole = PolicyPlan(
        mark=PlanMark(
            epoch=snapshot.epoch, revision=snapshot.revision, digest=_digest(snapshot, change, touched, untouched)
        ),
        policies=_policies(change), effects=TunnelEffects(untouched=untouched, **counts),
        interruptions=dict(sorted(interruptions.items())), tunnels=(), warnings=warnings,
    )  # fmt: skip
    return WholePlan(whole, touched)


def require_revision(stated: PlanMark, snapshot: PolicySnapshot) -> None:
    """Raise PlanMovedError if other policies are stored than those that the plan was made from."""
    if (stated.epoch, stated.revision) != (snapshot.epoch, snapshot.revision):
        made, held = f"{stated.epoch}.{stated.revision}", f"{snapshot.epoch}.{snapshot.revision}"
        raise _moved(f"it was made at revision {made}, and {held} is stored now")


def require_same(stated: PlanMark, made: WholePlan) -> None:
    """Raise PlanMovedError unless `made` is the plan that the mark is of."""
    if stated.digest != made.plan.mark.digest:
        raise _moved(
            "the gateways have changed since, or the policies are not those of the plan: its effect is another one"
        )


def _moved(reason: str) -> PlanMovedError:
    found = (InvalidField(field="plan", message=f"{reason}: nothing was stored, plan again"),)
    return PlanMovedError(f"the plan no longer holds: {reason}; nothing was stored: plan again", found)


def _tunnel(effect: TunnelEffect, records: Mapping[str, PeerRecord]) -> PlannedTunnel:
    drivers = [records[peer].driver(IPSEC) for peer in effect.peers if peer in records]
    return PlannedTunnel.model_validate(
        {
            "name": effect.name, "peers": effect.peers, "policy": effect.policy, "effect": effect.effect.value,
            "interruption": interruption(effect.effect, drivers),
        }
    )  # fmt: skip


def _policies(change: RevisionChange) -> tuple[PlannedPolicy, ...]:
    planned: list[PlannedPolicy] = []
    budget = MAX_CHANGES
    for action, ids in (("created", change.created), ("updated", change.updated), ("unchanged", change.unchanged)):
        for id_ in ids:
            before = change.before.get(id_)
            found: list[FieldChange] = []
            if action == "updated":
                assert before is not None
                found = changes(before.policy, change.after[id_].policy)
            shown = tuple(_short(it) for it in found[:budget])
            budget -= len(shown)
            planned.append(
                PlannedPolicy.model_validate(
                    {
                        "id": id_, "action": action, "version": before.policy.version if before else 0,
                        "changes": shown, "more_changes": len(found) - len(shown),
                    }
                )
            )  # fmt: skip
    return tuple(sorted(planned, key=lambda it: it.id))


def _short(change: FieldChange) -> FieldChange:
    before, after = (
        value if value is None or len(value) <= MAX_VALUE else value[: MAX_VALUE - 1] + "…"
        for value in (change.before, change.after)
    )
    return FieldChange(field=change.field, before=before, after=after)


def _digest(
    snapshot: PolicySnapshot, change: RevisionChange, touched: tuple[PlannedTunnel, ...], untouched: int
) -> str:
    content = [
        snapshot.epoch, snapshot.revision,
        [[id_, change.after[id_].policy.model_dump_json()] for id_ in sorted({*change.created, *change.updated, *change.unchanged})],
        [[it.name, it.policy, it.effect, it.interruption.value] for it in touched],
        untouched,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
