"""The keys by which documents on the bus are verified."""

from fastapi import APIRouter

from warren_api.routes.common import READS, AuthenticateFirstRoute, PartsOf, Viewer
from warren_contracts.bus_queries import FleetTrust
from warren_contracts.commands import Empty

router = APIRouter(prefix="/api", route_class=AuthenticateFirstRoute, tags=["system"])


@router.get("/trust", responses=READS)
async def get_trust(parts: PartsOf, principal: Viewer) -> FleetTrust:
    """The public key of the trust root, which other systems pin, and the trust document with the signing keys and the epoch."""
    return await parts.bus.call("registry", "trust", Empty(), FleetTrust)
