"""The epoch of the fleet: what an operator announces after a restore from a backup."""

from fastapi import APIRouter

from warren_api.bodies import JsonRoute
from warren_api.routes.common import WRITES, Admin, PartsOf
from warren_contracts.commands import AdvanceEpoch, EpochReply
from warren_contracts.http_bodies import NewEpoch

router = APIRouter(prefix="/api", route_class=JsonRoute, tags=["system"])


@router.post("/epoch", responses=WRITES)
async def advance_epoch(parts: PartsOf, who: Admin, request: NewEpoch) -> EpochReply:
    """Announce a new epoch, after a restore from a backup. Everything is published again; nothing older counts any more."""
    command = AdvanceEpoch(to=request.to, actor=who.name)
    return await parts.bus.call("registry", "advance_epoch", command, EpochReply)
