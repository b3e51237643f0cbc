"""Tunnels for operators: both ends next to each other, one state, and which ends are stale."""

import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime

from warren_contracts import combined
from warren_contracts.commands import ListTunnels, TunnelList
from warren_contracts.pages import fit_page
from warren_contracts.plans import ObservedState
from warren_contracts.status import FleetTunnel, ReasonCode, TunnelState
from warren_contracts.verdicts import INTENT_STALE_S
from warren_metrics.domain.causes import outdated_ends
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.peers import TunnelView

MUCH = 4  # a part of the fleet larger than a fourth is found by looking at each tunnel, without sorting


def fleet_tunnel(fleet: FleetTelemetry, name: str, now: datetime) -> FleetTunnel | None:
    """One tunnel; None when no peer reports it."""
    ends = fleet.tunnels.get(name)
    return None if ends is None else _combined(fleet, name, ends, now)


def list_tunnels(fleet: FleetTelemetry, query: ListTunnels, now: datetime, most: int = sys.maxsize) -> TunnelList:
    """A page of tunnels by name; filters come before the page. It ends after looking at `most` tunnels, whether or not it is full."""
    names: Iterable[str] = fleet.names.after(query.after)
    if query.peer is not None:
        names = _names_of(fleet, (query.peer,), query.after)
    elif query.ends is not None:
        names = _names_of(fleet, query.ends, query.after)
    limits = _limits(query)
    found: list[FleetTunnel] = []
    last = ""
    for seen, name in enumerate(names):
        if seen == most:
            shown = fit_page(found, exclude_defaults=query.lean)
            return TunnelList(tunnels=shown, next_after=last if len(shown) == len(found) else shown[-1].name)
        last, ends = name, fleet.tunnels[name]
        if limits and not all(_has_end(ends, limit) for limit in limits):
            continue
        if query.state is not None and combined.worst(_states(fleet, ends, now).values()) is not query.state:
            continue
        tunnel = _combined(fleet, name, ends, now, lean=query.lean)
        if len(found) == query.limit:
            shown = fit_page(found, exclude_defaults=query.lean)
            return TunnelList(tunnels=shown, next_after=shown[-1].name)
        found.append(tunnel)
    shown = fit_page(found, exclude_defaults=query.lean)
    return TunnelList(tunnels=shown, next_after=shown[-1].name if len(shown) < len(found) else None)


def _limits(query: ListTunnels) -> tuple[Collection[str], ...]:
    """Sets of peers; of each a listed tunnel has an end."""
    peer = () if query.peer is None else (frozenset({query.peer}),)
    return peer if query.ends is None else (*peer, frozenset(query.ends))


def _has_end(ends: Mapping[str, TunnelView], peers: Collection[str]) -> bool:
    """Whether one of these peers is an end: it reports the tunnel, or an end that reports names it."""
    return any(peer in peers or view.peer in peers for peer, view in ends.items())


def _names_of(fleet: FleetTelemetry, ends: Collection[str], after: str) -> Iterable[str]:
    """The tunnels after a name that may have one of these ends, in order: those of the ends, or all where they are much of the fleet."""
    found: set[str] = set()
    for peer in ends:
        found.update(fleet.names_of(peer), fleet.unreported.of(peer))
        if len(found) > len(fleet.tunnels) // MUCH:
            return fleet.names.after(after)
    return sorted(name for name in found if name > after)


async def read_page(
    fleet: FleetTelemetry, query: ListTunnels, now: Callable[[], datetime], most: int, pause: Callable[[], Awaitable[None]]
) -> TunnelList:  # fmt: skip
    """A page of tunnels with at least one, unless it is the last; `pause` is called after looking at `most` tunnels.

    With `ends` it is read to its end, and one tunnel further: the name of a tunnel without such an end must not be the place where the
    next page begins.
    """
    if query.ends is None:
        page = list_tunnels(fleet, query, now(), most)
        while page.next_after is not None and not page.tunnels:
            await pause()
            page = list_tunnels(fleet, query.model_copy(update={"after": page.next_after}), now(), most)
        return page
    found: list[FleetTunnel] = []
    after: str | None = query.after
    while after is not None and len(found) <= query.limit:
        rest = query.model_copy(update={"after": after, "limit": query.limit + 1 - len(found)})
        page = list_tunnels(fleet, rest, now(), most)
        found += page.tunnels
        if (after := page.next_after) is not None:
            await pause()
    shown = fit_page(found[: query.limit], exclude_defaults=query.lean)
    return TunnelList(tunnels=shown, next_after=shown[-1].name if len(shown) < len(found) else None)


def observed_states(fleet: FleetTelemetry, names: Iterable[str], now: datetime) -> dict[str, ObservedState]:
    """The present states of those of these tunnels that are reported."""
    found: dict[str, ObservedState] = {}
    for name in names:
        ends = fleet.tunnels.get(name)
        if ends is None:
            continue
        states = _states(fleet, ends, now)
        current = [ends[peer] for peer in states]
        reason = next((it.reason for it in current if it.reason is not ReasonCode.NONE), ReasonCode.NONE)
        since = max((it.since for it in current if it.since is not None), default=None)
        found[name] = ObservedState(state=combined.worst(states.values()), reason=reason, since=since)
    return found


def is_stale(fleet: FleetTelemetry, peer: str, now: datetime) -> bool:
    """Whether `peer` is offline: its last report may be outdated."""
    view = fleet.peers.get(peer)
    return view is None or not view.online(now)


def misses_digests(fleet: FleetTelemetry, peer: str) -> bool:
    """Whether the agent of `peer` misses the digests that would confirm its intent."""
    view = fleet.peers.get(peer)
    return view is not None and (view.intent_unconfirmed_s or 0.0) > INTENT_STALE_S


def stands_by(ends: Mapping[str, TunnelView], peer: str) -> bool:
    """Whether an end has no SA since another tunnel is used (`warren_contracts.combined`)."""
    return combined.stands_by(ends, peer)


def _states(fleet: FleetTelemetry, ends: Mapping[str, TunnelView], now: datetime) -> dict[str, TunnelState]:
    stale = {peer for peer in ends if is_stale(fleet, peer, now)}
    stale |= outdated_ends(ends, fleet.peers)
    return combined.states_of(ends, stale)


def _combined(
    fleet: FleetTelemetry, name: str, ends: Mapping[str, TunnelView], now: datetime, *, lean: bool = False
) -> FleetTunnel:
    peers = {*ends, *(view.peer for view in ends.values() if view.peer is not None)}
    return combined.combine(
        name,
        {peer: view.lean(name) if lean else view.status for peer, view in ends.items()},
        {peer: view.reported_at for peer, view in ends.items()},
        {peer for peer in peers if is_stale(fleet, peer, now)},
        {peer for peer in ends if misses_digests(fleet, peer)},
        outdated_ends(ends, fleet.peers),
    )
