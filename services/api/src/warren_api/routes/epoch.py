"""The epoch of the fleet, which an operator advances after a restore from a backup."""

from fastapi import APIRouter

from warren_api.bodies import JsonRoute
from warren_api.routes.common import WRITES, Admin, Client, PartsOf
from warren_contracts.commands import AdvanceEpoch, EpochReply
from warren_contracts.http_bodies import NewEpoch

router = APIRouter(prefix="/api", route_class=JsonRoute, tags=["system"])


@router.post("/epoch", responses=WRITES)
async def advance_epoch(parts: PartsOf, principal: Admin, client: Client, request: NewEpoch) -> EpochReply:
    """Advance the epoch, after a restore from a backup. Everything is published again; older documents are void."""
    command = AdvanceEpoch(to=request.to, actor=principal.name, client=client)
    return await parts.bus.call("registry", "advance_epoch", command, EpochReply)
