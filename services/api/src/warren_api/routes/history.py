"""What was: the history of a tunnel, and the fleet at an instant."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from warren_api.routes.common import READS, READS_ONE, After, AuthenticateFirstRoute, Limit, PartsOf, Seen, Viewer
from warren_api.routes.tunnels import TunnelName
from warren_api.scope.lookups import HISTORY_TIMEOUT, read_counters, read_history
from warren_contracts.tunnel_history import (
    CURSOR_PATTERN,
    FleetAt,
    FleetAtQuery,
    FleetObserved,
    PoliciesAtQuery,
    PoliciesDesired,
    TunnelCounters,
    TunnelCountersQuery,
    TunnelHistory,
    TunnelHistoryQuery,
)

router = APIRouter(prefix="/api", route_class=AuthenticateFirstRoute, tags=["history"])

Instant = Annotated[AwareDatetime, Query(description="A time with its zone: `2026-01-02T03:04:05Z`.")]


@router.get("/tunnels/{name}/history", responses=READS_ONE)
async def get_tunnel_history(
    parts: PartsOf, principal: Viewer, seen: Seen, name: TunnelName,
    before: Annotated[
        str | None, Query(pattern=CURSOR_PATTERN, description="`next_before` of the last page.")
    ] = None,
    until: Annotated[AwareDatetime | None, Query(description="Only what happened until then.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Entries of this page.")] = 100,
) -> TunnelHistory:  # fmt: skip
    """What happened to a tunnel, the newest first: states and reasons of both ends, their presence, and the revisions they applied."""
    request = TunnelHistoryQuery(name=name, before=before, until=until, limit=limit)
    return await read_history(parts.bus, seen, request)


@router.get("/tunnels/{name}/counters", responses=READS_ONE)
async def get_tunnel_counters(parts: PartsOf, principal: Viewer, seen: Seen, name: TunnelName) -> TunnelCounters:
    """The bytes each way in each minute of the last hour, as each end counted them. Minutes without a report are null."""
    return await read_counters(parts.bus, seen, TunnelCountersQuery(name=name))


@router.get("/fleet", responses=READS)
async def get_fleet(
    parts: PartsOf, principal: Viewer, seen: Seen, at: Instant, after: After = "", limit: Limit = 200
) -> FleetAt:
    """The fleet at an instant: which policies were stored, and the state of each tunnel as it was reported, a page at a time."""
    query = FleetAtQuery(at=at, after=after, limit=limit)
    if seen is not None:
        of_scope = FleetAtQuery(at=at, after=after, limit=limit, ends=seen.peers_at(at))
        observed = await parts.bus.call("metrics", "fleet_at", of_scope, FleetObserved, timeout=HISTORY_TIMEOUT)
        return FleetAt(at=at, desired=PoliciesDesired(at=at), observed=seen.observed(observed))
    desired, observed = await asyncio.gather(
        parts.bus.call("policy", "policies_at", PoliciesAtQuery(at=at), PoliciesDesired, timeout=HISTORY_TIMEOUT),
        parts.bus.call("metrics", "fleet_at", query, FleetObserved, timeout=HISTORY_TIMEOUT),
    )
    return FleetAt(at=at, desired=desired, observed=observed)
