"""The epoch of the fleet: what an operator announces after a restore from a backup."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from warren_api.bodies import JsonRoute
from warren_api.routes.common import WRITES, Admin, PartsOf
from warren_contracts.base import STRICT_INT, Input
from warren_contracts.commands import AdvanceEpoch, EpochReply

router = APIRouter(prefix="/api", route_class=JsonRoute, tags=["system"])


class NewEpoch(Input):
    """Which epoch; none: the next after all that are known. Give one where even the streams are of the backup."""

    to: Annotated[int, Field(ge=2, le=1_000_000), STRICT_INT] | None = None


@router.post("/epoch", responses=WRITES)
async def advance_epoch(parts: PartsOf, who: Admin, request: NewEpoch) -> EpochReply:
    """Announce a new epoch, after a restore from a backup. Everything is published again; nothing older counts any more."""
    command = AdvanceEpoch(to=request.to, actor=who.name)
    return await parts.bus.call("registry", "advance_epoch", command, EpochReply)
