"""Policies: one at a time, and several in one revision.

A change returns what was stored (revision, time of the commit, readers whose sets change). The version of a policy is its entity
tag (`warren_api.conditions`).
"""

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from warren_api.bodies import JsonRoute
from warren_api.conditions import entity_tag, parse_condition
from warren_api.errors import BodyTooLargeError, PolicySetTooLargeError, PreconditionFailedError
from warren_api.middleware import MAX_BODY
from warren_api.ports import Bus
from warren_api.routes.common import (
    READS,
    READS_ONE,
    WRITES,
    After,
    Limit,
    Name,
    Operator,
    PartsOf,
    Viewer,
    problems,
)
from warren_contracts.base import BIGINT_MAX
from warren_contracts.commands import (
    ApplyPolicies,
    ApplyReply,
    DeletePolicies,
    GetPolicy,
    Page,
    PolicyList,
    StoredPolicy,
)
from warren_contracts.http_bodies import ApplyRequest, DeleteRequest
from warren_contracts.policy import MAX_POLICY_SET, Policy
from warren_contracts.policy_history import ListHistory, PolicyHistory
from warren_contracts.problems import (
    ConflictError,
    InvalidField,
    InvalidInputError,
    NotFoundError,
    WarrenError,
)
from warren_contracts.rollouts import RolloutList
from warren_intent.relations import readers

router = APIRouter(prefix="/api", tags=["policies"], route_class=JsonRoute)

APPLY_TIMEOUT = 20.0  # s: a check of thousands of tunnels and a transaction
_CONDITION_SIZE = 1_024  # characters

IfMatch = Annotated[
    str | None, Header(max_length=_CONDITION_SIZE, description='The versions that may be replaced: `"3"`; `*`: any.')
]
IfNoneMatch = Annotated[
    str | None, Header(max_length=_CONDITION_SIZE, description='Versions that the client holds: `"3"`; `*`: any.')
]
ETAG = {"ETag": {"description": "The version of the policy", "schema": {"type": "string"}}}
UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "The client holds this version", "headers": ETAG}}
CREATED: dict[int | str, dict[str, Any]] = {
    201: {"description": "The policy was created", "model": ApplyReply, "headers": ETAG}
}


@router.get("/policies", responses=READS)
async def list_policies(parts: PartsOf, principal: Viewer, after: After = "", limit: Limit = 200) -> PolicyList:
    """The policies in order of ids, a page at a time. None to a token with a scope: a policy names peers and networks of others."""
    if principal.scope is not None:
        return PolicyList(policies=())
    return await parts.bus.call("policy", "list", Page(after=after, limit=limit), PolicyList)


@router.get("/rollouts", responses=READS)
async def list_rollouts(parts: PartsOf, principal: Viewer, after: After = "", limit: Limit = 200) -> RolloutList:
    """How far the current revision of each policy has got, in order of policies. Nothing to a token with a scope, as of policies."""
    if principal.scope is not None:
        return RolloutList(rollouts=())
    return await parts.bus.call("metrics", "rollouts", Page(after=after, limit=limit), RolloutList)


@router.post("/policies", status_code=201, responses=WRITES)
async def create_policy(parts: PartsOf, principal: Operator, policy: Policy, response: Response) -> ApplyReply:
    """Store a policy that does not exist yet (409 otherwise)."""
    reply = await apply(parts.bus, ApplyPolicies(policies=(policy,), mode="create", actor=principal.name))
    response.headers["location"] = f"/api/policies/{policy.id}"
    response.headers["etag"] = entity_tag(reply.versions[policy.id])
    return reply


@router.post("/policies:apply", responses=WRITES)
async def apply_policies(parts: PartsOf, principal: Operator, request: ApplyRequest) -> ApplyReply:
    """Store several policies in one revision; with `dry_run` everything is checked and nothing is stored."""
    return await apply(parts.bus, ApplyPolicies(**dict(request), actor=principal.name))


@router.post("/policies:delete", responses=WRITES)
async def delete_policies(parts: PartsOf, principal: Operator, request: DeleteRequest) -> ApplyReply:
    """Withdraw several policies in one revision, with their tunnels; with `dry_run` nothing is stored."""
    return await _delete(parts.bus, DeletePolicies(**dict(request), actor=principal.name))


@router.get("/policies/{policy_id}", responses=READS_ONE | UNCHANGED | problems(412))
async def get_policy(
    parts: PartsOf, principal: Viewer, policy_id: Name, response: Response, if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> StoredPolicy:  # fmt: skip
    """One policy; 304 when its version is one of `If-None-Match`."""
    wanted = parse_condition("If-Match", if_match)
    known = parse_condition("If-None-Match", if_none_match)
    if principal.scope is not None:
        raise no_policy(policy_id)
    stored = await parts.bus.call("policy", "get", GetPolicy(id=policy_id), StoredPolicy)
    response.headers["etag"] = entity_tag(stored.policy.version)
    if wanted is not None and not wanted.matches_strongly(stored.policy.version):
        raise PreconditionFailedError
    if known is not None and known.matches_weakly(stored.policy.version):
        # The model requires a body: with this status FastAPI drops it.
        response.status_code = 304
    return stored


@router.get("/policies/{policy_id}/history", responses=READS_ONE)
async def get_policy_history(
    parts: PartsOf, principal: Viewer, policy_id: Name,
    before: Annotated[
        int, Query(ge=0, le=BIGINT_MAX, description="Versions before this revision (exclusive); 0: from the newest on.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=100, description="Versions of this page.")] = 20,
) -> PolicyHistory:  # fmt: skip
    """The versions of a policy, the newest first, also of one that was deleted."""
    if principal.scope is not None:
        raise no_policy(policy_id)
    request = ListHistory(id=policy_id, before=before, limit=limit)
    return await parts.bus.call("policy", "history", request, PolicyHistory)


@router.put("/policies/{policy_id}", responses=WRITES | CREATED | problems(412))
async def put_policy(
    parts: PartsOf, principal: Operator, policy_id: Name, policy: Policy, response: Response, if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> ApplyReply:  # fmt: skip
    """Replace a policy, or create it (201).

    With `If-Match` only a policy that has one of these versions is replaced; with `If-None-Match: *` the policy is only created. A
    `version` in the body is the one that was edited: 409 if another is stored.
    """
    if policy.id != policy_id:
        raise _wrong("id", f"must be {policy_id}, as in the path")
    held = await _held_version(parts.bus, policy_id, if_match, if_none_match)
    command = ApplyPolicies(
        policies=(policy,), mode="upsert" if held is None else "update" if held else "create",
        expected_versions={policy_id: held} if held else {}, actor=principal.name,
    )  # fmt: skip
    try:
        reply = await apply(parts.bus, command)
    except (ConflictError, NotFoundError) as error:
        raise (error if held is None else _failed(error)) from None
    if policy_id in reply.created:
        response.status_code = 201
        response.headers["location"] = f"/api/policies/{policy_id}"
    response.headers["etag"] = entity_tag(reply.versions[policy_id])
    return reply


@router.delete("/policies/{policy_id}", responses=WRITES | problems(412))
async def delete_policy(
    parts: PartsOf, principal: Operator, policy_id: Name, if_match: IfMatch = None, if_none_match: IfNoneMatch = None
) -> ApplyReply:
    """Withdraw a policy with its tunnels; with `If-Match` only if it has one of these versions."""
    held = await _held_version(parts.bus, policy_id, if_match, if_none_match)
    command = DeletePolicies(
        ids=(policy_id,), expected_versions={policy_id: held} if held else {}, actor=principal.name
    )
    try:
        return await _delete(parts.bus, command)
    except ConflictError as error:
        raise (error if held is None else _failed(error)) from None


def no_policy(policy_id: str) -> NotFoundError:
    """The error for a token with a scope, to which no policy exists."""
    return NotFoundError(f"no policy {policy_id}: list the policies to see what there is")


async def _held_version(bus: Bus, policy_id: str, if_match: str | None, if_none_match: str | None) -> int | None:
    """The version that a change may replace: None for any or none, 0 for "there is no policy".

    The policy service compares it again when it stores the change, so nobody can step in between.

    Raises:
        PreconditionFailedError: the stored policy does not meet If-Match or If-None-Match (RFC 9110, 13.2.2).
    """
    wanted, unwanted = parse_condition("If-Match", if_match), parse_condition("If-None-Match", if_none_match)
    if wanted is None and unwanted is None:
        return None
    if wanted is not None and unwanted is None and (only := wanted.only_version) is not None:
        return only  # the policy service alone compares it
    try:
        version = (await bus.call("policy", "get", GetPolicy(id=policy_id), StoredPolicy)).policy.version
    except NotFoundError:
        version = None
    if wanted is not None and not wanted.matches_strongly(version):
        raise PreconditionFailedError(
            "If-Match: there is no such policy"
            if version is None
            else f"If-Match: version {version} is stored: read the policy again and repeat with its ETag"
        )
    if unwanted is not None and unwanted.matches_weakly(version):
        raise PreconditionFailedError(f"If-None-Match: the policy exists, in version {version}")
    return version or 0


def _failed(error: WarrenError) -> PreconditionFailedError:
    return PreconditionFailedError(f"the policy was changed meanwhile: {error.detail}")


async def apply(bus: Bus, command: ApplyPolicies) -> ApplyReply:
    """Store policies; raises the error of the policy service, or BodyTooLargeError."""
    check_size(command)
    return await bus.call("policy", "apply", command, ApplyReply, timeout=APPLY_TIMEOUT)


def check_size(command: ApplyPolicies) -> None:
    """Refuse a command that is too large for one message of the bus; the error names the reader with the largest set."""
    size = len(command.model_dump_json(exclude_unset=True).encode())
    if size <= MAX_BODY:
        return
    sizes: Counter[str] = Counter()
    for policy in command.policies:
        sizes.update(dict.fromkeys(readers(policy), len(policy.model_dump_json().encode())))
    [(reader, most)] = sizes.most_common(1)
    if most > MAX_POLICY_SET:
        raise PolicySetTooLargeError(
            f"the set of {reader} would have more than {most:,} bytes, {MAX_POLICY_SET:,} is the limit:"
            " address some of its policies to other tags"
        )
    raise BodyTooLargeError(
        f"{size:,} bytes are more than one message of the bus carries ({MAX_BODY:,}): apply fewer policies at once;"
        f" most of it, {most:,} bytes, is for {reader}"
    )


async def _delete(bus: Bus, command: DeletePolicies) -> ApplyReply:
    return await bus.call("policy", "delete", command, ApplyReply, timeout=APPLY_TIMEOUT)


def _wrong(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {message}", (InvalidField(field=field, message=message),))
