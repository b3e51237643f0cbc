"""Plans: computed from the stored policies and the directory, and held for a moment so that their pages agree."""

import asyncio
import hashlib
from collections import OrderedDict

from warren_contracts.commands import ApplyPolicies
from warren_contracts.plans import PlanPolicies, PolicyPlan
from warren_policy.domain.derived import DerivedSets
from warren_policy.domain.planned import WholePlan, make_plan
from warren_policy.domain.proof import prove
from warren_policy.domain.revisions import plan_apply
from warren_policy.ports import Directory, PolicyStore

HELD = 4  # plans, each of as many tunnels as the change touches

_Key = tuple[int, int, str]


class Planner:
    """Makes plans; it changes nothing, and waits for no change."""

    def __init__(self, store: PolicyStore, directory: Directory, derived: DerivedSets) -> None:
        self._store = store
        self._directory = directory
        self._derived = derived
        self._held: OrderedDict[_Key, WholePlan] = OrderedDict()

    async def plan(self, command: PlanPolicies) -> PolicyPlan:
        """A page of the plan of these policies; further pages are of the plan that the first one was of.

        Raises InvalidInputError, ConflictError or UnavailableError, as applying them would.
        """
        snapshot = await self._store.snapshot()
        documents = hashlib.sha256(b"\n".join(it.model_dump_json().encode() for it in command.policies)).hexdigest()
        key = (snapshot.epoch, snapshot.revision, documents)
        held = self._held.get(key)
        if held is None or not command.after:
            apply = ApplyPolicies(policies=command.policies)
            change = plan_apply(snapshot, apply)
            fleet = await self._directory.fleet()
            derived = self._derived.of(change, fleet.records)
            warnings = await asyncio.to_thread(prove, change, apply, derived, fleet.tags)
            held = await asyncio.to_thread(make_plan, snapshot, change, derived, warnings)
            self._held.pop(key, None)
            self._held[key] = held
            while len(self._held) > HELD:
                self._held.popitem(last=False)
        return held.page(command.after, command.limit)
