"""The audit log."""

from fastapi import APIRouter

from warren_api.routes.common import READS, Admin, After, AuthenticateFirstRoute, Limit, PartsOf
from warren_contracts.audit import AuditLog
from warren_contracts.commands import Page

router = APIRouter(prefix="/api", route_class=AuthenticateFirstRoute)


@router.get("/audit", responses=READS, tags=["audit"])
async def list_audit(parts: PartsOf, principal: Admin, after: After = "", limit: Limit = 200) -> AuditLog:
    """What operators have done to peers, tokens and epochs, oldest first: when, who, and from which address."""
    return await parts.bus.call("registry", "audit", Page(after=after, limit=limit), AuditLog)
