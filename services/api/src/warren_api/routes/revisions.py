"""Revisions: plan a change, compare two versions of a policy, store an earlier one again, list what was deleted."""

from typing import Annotated

from fastapi import APIRouter, Query

from warren_api.bodies import JsonRoute
from warren_api.ports import Bus
from warren_api.routes.common import READS, READS_ONE, WRITES, After, Limit, Name, Operator, PartsOf, Viewer
from warren_api.routes.policies import APPLY_TIMEOUT, apply, check_size, no_policy
from warren_contracts.commands import ApplyPolicies, ApplyReply, Page
from warren_contracts.http_bodies import RollbackRequest
from warren_contracts.plans import (
    DiffPolicy,
    PlanPolicies,
    PolicyDiff,
    PolicyPlan,
    TunnelStates,
    TunnelStatesQuery,
)
from warren_contracts.policy_history import DeletedPolicies, ListHistory, PolicyHistory, PolicyVersion
from warren_contracts.problems import ConflictError, InvalidField, InvalidInputError, NotFoundError, WarrenError

router = APIRouter(prefix="/api", tags=["policies"], route_class=JsonRoute)

PAGE = 100  # versions of one call

VersionQuery = Annotated[int, Query(ge=0)]


@router.post("/policies:plan", responses=WRITES)
async def plan_policies(parts: PartsOf, principal: Operator, request: PlanPolicies) -> PolicyPlan:
    """What storing these policies would do: each field that changes, and the effect on each tunnel next to its present state.

    `mark` in the body of `policies:apply` (`plan`) applies exactly this, or is refused (409, `plan-moved`). `after` gives further pages.
    """
    check_size(ApplyPolicies(policies=request.policies))
    plan = await parts.bus.call("policy", "plan", request, PolicyPlan, timeout=APPLY_TIMEOUT)
    return await _with_states(parts.bus, plan)


@router.get("/policies:deleted", responses=READS)
async def list_deleted_policies(
    parts: PartsOf, principal: Viewer, after: After = "", limit: Limit = 200
) -> DeletedPolicies:
    """The policies that were stored once and are not any more, in order of ids. A rollback stores a version of one again."""
    if principal.scope is not None:
        return DeletedPolicies(policies=())
    return await parts.bus.call("policy", "deleted", Page(after=after, limit=limit), DeletedPolicies)


@router.get("/policies/{policy_id}/diff", responses=READS_ONE)
async def diff_policy(
    parts: PartsOf, principal: Viewer, policy_id: Name, first: VersionQuery = 0, second: VersionQuery = 0
) -> PolicyDiff:
    """What differs between two versions, field by field. `second` 0: the last one; `first` 0: the one before `second`."""
    if principal.scope is not None:
        raise no_policy(policy_id)
    request = DiffPolicy(id=policy_id, from_version=first, to_version=second)
    return await parts.bus.call("policy", "diff", request, PolicyDiff)


@router.post("/policies/{policy_id}/rollback", responses=WRITES)
async def roll_back_policy(
    parts: PartsOf, principal: Operator, policy_id: Name, request: RollbackRequest
) -> ApplyReply:
    """Store the content of an earlier version again, as a new version, also of a policy that was deleted.

    With `dry_run` nothing is stored.
    """
    newest, wanted = await _versions(parts.bus, policy_id, request.to)
    held = newest.version if newest.policy is not None else 0
    if request.version and request.version != held:
        message = f"expected version {request.version}, stored is {held}"
        raise ConflictError(f"version: {message}", (InvalidField(field="version", message=message),))
    assert wanted.policy is not None
    command = ApplyPolicies(
        policies=(wanted.policy.model_copy(update={"version": held}),),
        mode=("update" if held else "create") if request.mode == "upsert" else request.mode, dry_run=request.dry_run, actor=principal.name,
    )  # fmt: skip
    return await apply(parts.bus, command)


async def _with_states(bus: Bus, plan: PolicyPlan) -> PolicyPlan:
    """The plan with the present states of its tunnels; that they are not known does not prevent it."""
    names = tuple(tunnel.name for tunnel in plan.tunnels)
    try:
        found = (await bus.call("metrics", "states", TunnelStatesQuery(names=names), TunnelStates)).states
    except WarrenError:
        return plan
    tunnels = tuple(
        it.model_copy(update={"state": found[it.name].state}) if it.name in found else it for it in plan.tunnels
    )
    return plan.model_copy(update={"tunnels": tunnels, "states_known": True})


async def _versions(bus: Bus, policy_id: str, version: int) -> tuple[PolicyVersion, PolicyVersion]:
    """The newest version of a policy, and the one that is wanted."""
    newest: PolicyVersion | None = None
    before: int | None = 0
    while before is not None:
        request = ListHistory(id=policy_id, before=before, limit=PAGE)
        page = await bus.call("policy", "history", request, PolicyHistory)
        newest = newest or page.versions[0]
        for found in page.versions:
            if found.version == version and found.action != "deleted":
                return newest, found
        before = page.next_before
    if newest is not None and newest.version == version:
        message = "the policy was deleted there: delete it instead"
        raise InvalidInputError(f"to: {message}", (InvalidField(field="to", message=message),))
    raise NotFoundError(f"{policy_id} has no version {version}: its history lists them")
