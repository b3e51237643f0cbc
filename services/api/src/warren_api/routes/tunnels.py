"""Tunnels, as both ends report them."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import StringConstraints

from warren_api.explanations import explanation
from warren_api.orders import order_tunnel
from warren_api.routes.common import (
    READS,
    READS_ONE,
    After,
    AuthenticateFirstRoute,
    Client,
    Limit,
    Name,
    Operator,
    PartsOf,
    Seen,
    Viewer,
    problems,
)
from warren_api.scope import lookups
from warren_contracts.commands import ListTunnels, OperatorCommand, TunnelAction, TunnelList, TunnelOrdered
from warren_contracts.explanation import Explanation
from warren_contracts.names import TUNNEL_NAME_PATTERN, SaReference
from warren_contracts.status import FleetTunnel, TunnelState

router = APIRouter(prefix="/api", route_class=AuthenticateFirstRoute, tags=["tunnels"])

TunnelName = Annotated[str, StringConstraints(pattern=TUNNEL_NAME_PATTERN)]
End = Annotated[
    Name | None,
    Query(description="The end whose agent does it. None: the initiator's, if it is online, else the other's."),
]
Sa = Annotated[
    SaReference | None,
    Query(
        description="Only this SA: `ike`, the IKE_SA, or `child=NAME`, the CHILD_SAs of one child. None: all of the tunnel."
    ),
]
ORDERS = problems(401, 403, 404, 409, 422, 429, 503)


@router.get("/tunnels", responses=READS)
async def list_tunnels(
    parts: PartsOf, principal: Viewer, seen: Seen, after: After = "", limit: Limit = 200,
    peer: Annotated[Name | None, Query(description="Only tunnels of which this peer is an end.")] = None,
    state: Annotated[TunnelState | None, Query(description="Only tunnels in this state.")] = None,
) -> TunnelList:  # fmt: skip
    """The tunnels in order of names, a page at a time."""
    request = ListTunnels(after=after, limit=limit, peer=peer, state=state)
    return await lookups.list_tunnels(parts.bus, seen, request)


@router.get("/tunnels/{name}", responses=READS_ONE)
async def get_tunnel(parts: PartsOf, principal: Viewer, seen: Seen, name: TunnelName) -> FleetTunnel:
    """One tunnel: both ends' views next to each other."""
    return await lookups.read_tunnel(parts.bus, seen, name)


@router.get("/tunnels/{name}/explanation", responses=READS_ONE)
async def explain_tunnel(parts: PartsOf, principal: Viewer, seen: Seen, name: TunnelName) -> Explanation:
    """Why a tunnel is in its state: one cause from what both ends say, a sentence, and what to do."""
    return await explanation(parts.bus, seen, name)


@router.post("/tunnels/{name}/rekey", status_code=202, responses=ORDERS)
async def rekey_tunnel(
    parts: PartsOf, principal: Operator, seen: Seen, client: Client, name: TunnelName, peer: End = None, sa: Sa = None
) -> TunnelOrdered:
    """Have the agent of one end give the tunnel's SAs new keys, without an interruption. At most once in five seconds for each end."""
    return await order_tunnel(
        parts.bus, seen, name, peer, TunnelAction.REKEY, sa, OperatorCommand(actor=principal.name, client=client)
    )


@router.post("/tunnels/{name}/restart", status_code=202, responses=ORDERS)
async def restart_tunnel(
    parts: PartsOf, principal: Operator, seen: Seen, client: Client, name: TunnelName, peer: End = None, sa: Sa = None
) -> TunnelOrdered:
    """Have the agent of one end close the tunnel's SAs and negotiate again: traffic stops for that long.

    The CHILD_SAs end with their IKE_SA, so `sa=ike` restarts the tunnel.
    """
    return await order_tunnel(
        parts.bus, seen, name, peer, TunnelAction.RESTART, sa, OperatorCommand(actor=principal.name, client=client)
    )
