"""Tunnels for operators: both ends next to each other, one state, and which ends are stale."""

from bisect import bisect_right
from collections.abc import Mapping
from datetime import datetime

from warren_contracts.commands import ListTunnels, TunnelList
from warren_contracts.pages import fit_page
from warren_contracts.status import FleetTunnel, TunnelState
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.peers import TunnelView

# The worst state of the online ends is the tunnel's state; up requires all of them.
_WORST_FIRST = (
    TunnelState.ERROR, TunnelState.DOWN, TunnelState.CONNECTING, TunnelState.DEGRADED, TunnelState.UNKNOWN, TunnelState.STANDBY,
    TunnelState.UP,
)  # fmt: skip
MAX_DISAGREEMENT = 512  # characters, of FleetTunnel.disagreement
_INSTALLED = frozenset({TunnelState.UP, TunnelState.DEGRADED})


def fleet_tunnel(fleet: FleetTelemetry, name: str, now: datetime) -> FleetTunnel | None:
    """One tunnel; None when no peer reports it."""
    ends = fleet.tunnels.get(name)
    return None if ends is None else _combined(fleet, name, ends, now)


def list_tunnels(fleet: FleetTelemetry, query: ListTunnels, now: datetime) -> TunnelList:
    """A page of tunnels by name; filters come before the page."""
    names = sorted(fleet.tunnels if query.peer is None else fleet.names_of(query.peer))
    found: list[FleetTunnel] = []
    for name in names[bisect_right(names, query.after) :]:
        tunnel = _combined(fleet, name, fleet.tunnels[name], now)
        if query.state is not None and tunnel.state is not query.state:
            continue
        if len(found) == query.limit:
            shown = fit_page(found)
            return TunnelList(tunnels=shown, next_after=shown[-1].name)
        found.append(tunnel)
    shown = fit_page(found)
    return TunnelList(tunnels=shown, next_after=shown[-1].name if len(shown) < len(found) else None)


def is_stale(fleet: FleetTelemetry, peer: str, now: datetime) -> bool:
    """Whether the last report of `peer` may be outdated."""
    view = fleet.peers.get(peer)
    return view is None or not view.online(now)


def _combined(fleet: FleetTelemetry, name: str, ends: Mapping[str, TunnelView], now: datetime) -> FleetTunnel:
    stale = tuple(sorted(peer for peer in ends if is_stale(fleet, peer, now)))
    states = {
        peer: TunnelState.STANDBY if stands_by(ends, peer) else ends[peer].status.state
        for peer in sorted(ends) if peer not in stale
    }  # fmt: skip
    return FleetTunnel(
        name=name,
        state=next((state for state in _WORST_FIRST if state in states.values()), TunnelState.UNKNOWN),
        disagreement=_disagreement(states, _silent_ends(fleet, ends, now)),
        peers=tuple(sorted({*ends, *(view.status.peer for view in ends.values() if view.status.peer is not None)})),
        ends={peer: ends[peer].status for peer in sorted(ends)},
        stale=stale,
        reported_at={peer: ends[peer].reported_at for peer in sorted(ends)},
    )


def stands_by(ends: Mapping[str, TunnelView], peer: str) -> bool:
    """Whether an end has no SA since another tunnel is used: the end that decides says so, the other one is only not called."""
    status = ends[peer].status
    if status.state is TunnelState.STANDBY:
        return True
    is_quiet = status.state is TunnelState.DOWN and not status.initiator
    return is_quiet and any(view.status.state is TunnelState.STANDBY for view in ends.values())


def _silent_ends(fleet: FleetTelemetry, ends: Mapping[str, TunnelView], now: datetime) -> list[str]:
    """The peers that are online, are an end by the other one's report, and do not report the tunnel."""
    named = {view.status.peer for view in ends.values() if view.status.peer is not None}
    return sorted(peer for peer in named - ends.keys() if not is_stale(fleet, peer, now))


def _disagreement(states: Mapping[str, TunnelState], silent: list[str]) -> str:
    """Which end has CHILD_SAs while another has none: one of them sends what the other cannot decrypt."""
    installed = [state in _INSTALLED for state in states.values()]
    if not any(installed) or (all(installed) and not silent):
        return ""
    reported = [f"{peer}: {state.value}" for peer, state in states.items()]
    return ", ".join([*reported, *(f"{peer}: not reported" for peer in silent)])[:MAX_DISAGREEMENT]
