"""Policies: one at a time, and several in one revision.

A change returns what was stored (revision, time of the commit, readers whose sets change). The version of a
policy is the `ETag` of GET and the `If-Match` of PUT and DELETE.
"""

import re
from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Header, Response

from warren_api.bodies import JsonRoute
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
from warren_contracts.problems import ConflictError, InvalidField, InvalidInputError
from warren_intent.relations import readers

router = APIRouter(prefix="/api", tags=["policies"], route_class=JsonRoute)

APPLY_TIMEOUT = 20.0  # s: a check of thousands of tunnels and a transaction
_ETAG = re.compile(r'"([0-9]{1,9})"')

IfMatch = Annotated[str | None, Header(max_length=64, description='The version to replace: `"3"`.')]


@router.get("/policies", responses=READS)
async def list_policies(parts: PartsOf, principal: Viewer, after: After = "", limit: Limit = 200) -> PolicyList:
    """The policies in order of ids, a page at a time."""
    return await parts.bus.call("policy", "list", Page(after=after, limit=limit), PolicyList)


@router.post("/policies", status_code=201, responses=WRITES)
async def create_policy(parts: PartsOf, principal: Operator, policy: Policy, response: Response) -> ApplyReply:
    """Store a policy that does not exist yet (409 otherwise)."""
    reply = await _apply(parts.bus, ApplyPolicies(policies=(policy,), mode="create", actor=principal.name))
    response.headers["location"] = f"/api/policies/{policy.id}"
    return reply


@router.post("/policies:apply", responses=WRITES)
async def apply_policies(parts: PartsOf, principal: Operator, request: ApplyRequest) -> ApplyReply:
    """Store several policies in one revision; with `dry_run` everything is checked and nothing is stored."""
    return await _apply(parts.bus, ApplyPolicies(**dict(request), actor=principal.name))


@router.post("/policies:delete", responses=WRITES)
async def delete_policies(parts: PartsOf, principal: Operator, request: DeleteRequest) -> ApplyReply:
    """Withdraw several policies in one revision, with their tunnels."""
    return await _delete(parts.bus, DeletePolicies(**dict(request), actor=principal.name))


@router.get("/policies/{policy_id}", responses=READS_ONE)
async def get_policy(
    parts: PartsOf, principal: Viewer, policy_id: Name, response: Response,
    if_none_match: Annotated[str | None, Header(max_length=64)] = None,
) -> StoredPolicy:  # fmt: skip
    """One policy; 304 when it still has the version of `If-None-Match`."""
    stored = await parts.bus.call("policy", "get", GetPolicy(id=policy_id), StoredPolicy)
    response.headers["etag"] = etag(stored)
    if if_none_match == etag(stored):
        # The model requires a body: with this status FastAPI drops it.
        response.status_code = 304
    return stored


@router.put("/policies/{policy_id}", responses=WRITES | problems(412))
async def put_policy(
    parts: PartsOf, principal: Operator, policy_id: Name, policy: Policy, response: Response, if_match: IfMatch = None
) -> ApplyReply:
    """Replace a policy, or create it (201); with `If-Match` only replace it if it still has that version."""
    if policy.id != policy_id:
        raise _wrong("id", f"must be {policy_id}, as in the path")
    version = parse_etag(if_match)
    command = ApplyPolicies(
        policies=(policy,), mode="upsert" if if_match is None else "update",
        expected_versions={} if version is None else {policy_id: version}, actor=principal.name,
    )  # fmt: skip
    try:
        reply = await _apply(parts.bus, command)
    except ConflictError as error:
        raise (error if version is None else PreconditionFailedError(error.detail)) from None
    if policy_id in reply.created:
        response.status_code = 201
    return reply


@router.delete("/policies/{policy_id}", responses=WRITES | problems(412))
async def delete_policy(parts: PartsOf, principal: Operator, policy_id: Name, if_match: IfMatch = None) -> ApplyReply:
    """Withdraw a policy with its tunnels; with `If-Match` only if it still has that version."""
    version = parse_etag(if_match)
    expected = {} if version is None else {policy_id: version}
    try:
        return await _delete(
            parts.bus, DeletePolicies(ids=(policy_id,), expected_versions=expected, actor=principal.name)
        )
    except ConflictError as error:
        raise (error if version is None else PreconditionFailedError(error.detail)) from None


def etag(stored: StoredPolicy) -> str:
    """The version of a policy as an entity tag."""
    return f'"{stored.policy.version}"'


def parse_etag(if_match: str | None) -> int | None:
    """The expected version; None: any. Raises InvalidInputError."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise _wrong("If-Match", 'write the ETag of the policy: `"3"`, or `*`')
    return int(match.group(1))


async def _apply(bus: Bus, command: ApplyPolicies) -> ApplyReply:
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
