"""Calls of services, with replies that are limited to a scope. `seen` None: a reader of the whole fleet, to whom nothing is changed.

What is outside of the scope answers as what does not exist: the same error with the same words.
"""

import asyncio
from typing import TypeVar

from pydantic import BaseModel

from warren_api.ports import Bus
from warren_api.scope.events import ends_of
from warren_api.scope.view import ScopeView
from warren_contracts.commands import GetPeer, GetTunnel, ListTunnels, TunnelList
from warren_contracts.names import PeerId, TunnelName
from warren_contracts.peers import PeerSummary
from warren_contracts.problems import NotFoundError
from warren_contracts.status import FleetTunnel
from warren_contracts.tunnel_history import (
    TunnelCounters,
    TunnelCountersQuery,
    TunnelHistory,
    TunnelHistoryQuery,
)

HISTORY_TIMEOUT = 15.0  # s: of PostgreSQL, over the whole retention

ReplyT = TypeVar("ReplyT", bound=BaseModel)


async def read_peer(bus: Bus, seen: ScopeView | None, peer: PeerId) -> PeerSummary:
    """One peer. Raises NotFoundError."""
    if seen is None:
        return await bus.call("registry", "peer", GetPeer(peer=peer), PeerSummary)
    found = await _if_known(bus, "registry", "peer", GetPeer(peer=peer), PeerSummary)
    if found is None or not seen.has_peer(peer):
        raise NotFoundError(f"unknown peer {peer}: list the peers")
    return seen.peer(found)


async def list_tunnels(bus: Bus, seen: ScopeView | None, query: ListTunnels) -> TunnelList:
    """A page of tunnels."""
    if seen is None:
        return await bus.call("metrics", "tunnels", query, TunnelList)
    given = query.model_dump(exclude_unset=True)
    page = await bus.call("metrics", "tunnels", ListTunnels(**given, ends=seen.peers), TunnelList)
    return page.model_copy(update={"tunnels": seen.tunnels(page.tunnels)})


async def read_tunnel(bus: Bus, seen: ScopeView | None, name: TunnelName) -> FleetTunnel:
    """One tunnel. Raises NotFoundError."""
    if seen is None:
        return await bus.call("metrics", "tunnel", GetTunnel(name=name), FleetTunnel)
    found = await _if_known(bus, "metrics", "tunnel", GetTunnel(name=name), FleetTunnel)
    if found is None or not seen.has_tunnel(found.peers):
        raise _unknown_tunnel(name)
    return seen.tunnel(found)


async def read_history(bus: Bus, seen: ScopeView | None, query: TunnelHistoryQuery) -> TunnelHistory:
    """A page of what happened to a tunnel, also to one that is gone. Raises NotFoundError."""
    if seen is None:
        return await bus.call("metrics", "tunnel_history", query, TunnelHistory, timeout=HISTORY_TIMEOUT)
    known, tunnel = await asyncio.gather(
        _if_known(bus, "metrics", "tunnel_history", query, TunnelHistory, HISTORY_TIMEOUT),
        _if_known(bus, "metrics", "tunnel", GetTunnel(name=query.name), FleetTunnel),
    )
    ends = {*ends_of(query.name), *(tunnel.peers if tunnel is not None else ())}
    if known is not None:
        ends |= {entry.peer for entry in known.entries}
        if (shown := seen.history(known, ends)) is not None:
            return shown
    raise _unknown_tunnel(query.name)


async def read_counters(bus: Bus, seen: ScopeView | None, query: TunnelCountersQuery) -> TunnelCounters:
    """The traffic of a tunnel in the last hour. Raises NotFoundError."""
    tunnel = None if seen is None else await read_tunnel(bus, seen, query.name)
    found = await bus.call("metrics", "tunnel_counters", query, TunnelCounters)
    if seen is None or tunnel is None:
        return found
    shown = seen.counters(found, tunnel.peers)
    if shown is None:
        raise _unknown_tunnel(query.name)
    return shown


async def _if_known(
    bus: Bus, service: str, verb: str, request: BaseModel, reply: type[ReplyT], timeout: float = 5.0
) -> ReplyT | None:
    try:
        return await bus.call(service, verb, request, reply, timeout=timeout)
    except NotFoundError:
        return None


def _unknown_tunnel(name: TunnelName) -> NotFoundError:
    return NotFoundError(f"unknown tunnel {name}: list the reported tunnels")
