"""Tunnels, as both ends report them."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import StringConstraints

from warren_api.explanations import explanation
from warren_api.routes.common import READS, READS_ONE, After, AuthenticateFirstRoute, Limit, Name, PartsOf, Viewer
from warren_contracts.commands import GetTunnel, ListTunnels, TunnelList
from warren_contracts.explanation import Explanation
from warren_contracts.names import TUNNEL_NAME_PATTERN
from warren_contracts.status import FleetTunnel, TunnelState

router = APIRouter(prefix="/api", route_class=AuthenticateFirstRoute, tags=["tunnels"])

TunnelName = Annotated[str, StringConstraints(pattern=TUNNEL_NAME_PATTERN)]


@router.get("/tunnels", responses=READS)
async def list_tunnels(
    parts: PartsOf, principal: Viewer, after: After = "", limit: Limit = 200,
    peer: Annotated[Name | None, Query(description="Only tunnels of this peer.")] = None,
    state: Annotated[TunnelState | None, Query(description="Only tunnels in this state.")] = None,
) -> TunnelList:  # fmt: skip
    """The tunnels in order of names, a page at a time."""
    request = ListTunnels(after=after, limit=limit, peer=peer, state=state)
    return await parts.bus.call("metrics", "tunnels", request, TunnelList)


@router.get("/tunnels/{name}", responses=READS_ONE)
async def get_tunnel(parts: PartsOf, principal: Viewer, name: TunnelName) -> FleetTunnel:
    """One tunnel: both ends' views next to each other."""
    return await parts.bus.call("metrics", "tunnel", GetTunnel(name=name), FleetTunnel)


@router.get("/tunnels/{name}/explanation", responses=READS_ONE)
async def explain_tunnel(parts: PartsOf, principal: Viewer, name: TunnelName) -> Explanation:
    """Why a tunnel is in its state: one cause from what both ends say, a sentence, and what to do."""
    return await explanation(parts.bus, name)
