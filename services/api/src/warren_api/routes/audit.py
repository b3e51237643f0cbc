"""The audit log."""

from fastapi import APIRouter

from warren_api.routes.common import READS, Admin, After, AuthenticateFirstRoute, Limit, PartsOf
from warren_contracts.audit import AuditLog, AuditVerification, PolicyAuditLog
from warren_contracts.commands import Empty, Page
from warren_contracts.scope import ListAudit

VERIFY_TIMEOUT = 30.0  # s: the whole chain is computed again

router = APIRouter(prefix="/api", route_class=AuthenticateFirstRoute)


@router.get("/audit", responses=READS, tags=["audit"])
async def list_audit(parts: PartsOf, principal: Admin, after: After = "", limit: Limit = 200) -> AuditLog:
    """What operators have done to peers, tokens and epochs, oldest first: when, who, and from which address.

    To a token with a scope: what was done to its peers and their tunnels.
    """
    query = ListAudit(after=after, limit=limit)
    if principal.scope is not None:
        query = ListAudit(after=after, limit=limit, scope=principal.scope)
    return await parts.bus.call("registry", "audit", query, AuditLog)


@router.get("/audit/policies", responses=READS, tags=["audit"])
async def list_policy_audit(parts: PartsOf, principal: Admin, after: After = "", limit: Limit = 200) -> PolicyAuditLog:
    """Every revision of the policies, oldest first: when, who, and the SHA-256 of each policy. Each row's hash covers those before it."""
    return await parts.bus.call("policy", "audit", Page(after=after, limit=limit), PolicyAuditLog)


@router.get("/audit/verification", responses=READS, tags=["audit"])
async def verify_policy_audit(parts: PartsOf, principal: Admin) -> AuditVerification:
    """Compute the hash chain of the policies' audit log again: whether it is whole, and else the first row that does not fit."""
    return await parts.bus.call("policy", "verify_audit", Empty(), AuditVerification, timeout=VERIFY_TIMEOUT)
