"""The state of a tunnel from what its ends report, for operators: one rule for present, past and live views."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from warren_contracts.base import assembled
from warren_contracts.names import PeerId, TunnelName
from warren_contracts.status import FleetTunnel, TunnelState, TunnelStatus

# The worst state of the online ends is the tunnel's state; up requires all of them.
WORST_FIRST = (
    TunnelState.ERROR, TunnelState.DOWN, TunnelState.CONNECTING, TunnelState.DEGRADED, TunnelState.UNKNOWN, TunnelState.STANDBY,
    TunnelState.UP,
)  # fmt: skip
MAX_DISAGREEMENT = 512  # characters, of FleetTunnel.disagreement
_GIVEN = set(FleetTunnel.model_fields)
_INSTALLED = frozenset({TunnelState.UP, TunnelState.DEGRADED})


class EndState(Protocol):
    """What decides the state of a tunnel, of one end: a TunnelStatus, or what a service remembers of it."""

    @property
    def state(self) -> TunnelState: ...

    @property
    def initiator(self) -> bool: ...

    @property
    def peer(self) -> PeerId | None: ...


class CombinedState(NamedTuple):
    """The state of a tunnel, what its ends contradict each other in, its peers, and the ends whose last report may be outdated."""

    state: TunnelState
    disagreement: str
    peers: tuple[PeerId, ...]
    stale: tuple[PeerId, ...]


def combined_state(ends: Mapping[PeerId, EndState], offline: Collection[PeerId]) -> CombinedState:
    """The state of a tunnel. `offline`: those of its peers, reporting or named by the other end, that are offline."""
    states = states_of(ends, offline)
    named = {status.peer for status in ends.values() if status.peer is not None}
    silent = sorted(peer for peer in named - ends.keys() if peer not in offline)
    stale = tuple(sorted(peer for peer in ends if peer in offline))
    return CombinedState(worst(states.values()), _disagreement(states, silent), tuple(sorted({*ends, *named})), stale)


def combine(
    name: TunnelName,
    ends: Mapping[PeerId, TunnelStatus],
    reported_at: Mapping[PeerId, datetime],
    offline: Collection[PeerId],
    unconfirmed: Collection[PeerId] = (),
    outdated: Collection[PeerId] = (),
) -> FleetTunnel:
    """The tunnel as shown to operators. `offline` as for `combined_state`.

    `unconfirmed`: ends that miss the registry's digests; `outdated`: ends that are back without a current report.
    """
    found, reporting = combined_state(ends, {*offline, *outdated} if outdated else offline), sorted(ends)
    values = {
        "name": name, "state": found.state, "disagreement": found.disagreement, "peers": found.peers,
        "ends": {peer: ends[peer] for peer in reporting}, "stale": found.stale,
        "unconfirmed": tuple([peer for peer in reporting if peer in unconfirmed and peer not in found.stale]),
        "outdated": tuple([peer for peer in found.stale if peer in outdated and peer not in offline]),
        "reported_at": {peer: reported_at[peer] for peer in reporting if peer in reported_at},
    }  # fmt: skip
    return assembled(FleetTunnel, _GIVEN, values)  # all of it was validated when it arrived


def states_of(ends: Mapping[PeerId, EndState], offline: Collection[PeerId]) -> dict[PeerId, TunnelState]:
    """The states of the ends that are online, in order of their peers."""
    return {
        peer: TunnelState.STANDBY if stands_by(ends, peer) else ends[peer].state
        for peer in sorted(ends) if peer not in offline
    }  # fmt: skip


def worst(states: Collection[TunnelState]) -> TunnelState:
    """The state of a tunnel whose current ends are in these states; without any it is unknown."""
    return next((state for state in WORST_FIRST if state in states), TunnelState.UNKNOWN)


def stands_by(ends: Mapping[PeerId, EndState], peer: PeerId) -> bool:
    """Whether an end has no SA since another tunnel is used: the end that decides says so, the other one is only not called."""
    status = ends[peer]
    if status.state is TunnelState.STANDBY:
        return True
    is_quiet = status.state is TunnelState.DOWN and not status.initiator
    return is_quiet and any(other.state is TunnelState.STANDBY for other in ends.values())


def _disagreement(states: Mapping[PeerId, TunnelState], silent: Sequence[PeerId]) -> str:
    """Which end has CHILD_SAs while another has none: one of them sends what the other cannot decrypt."""
    installed = [state in _INSTALLED for state in states.values()]
    if not any(installed) or (all(installed) and not silent):
        return ""
    reported = [f"{peer}: {state.value}" for peer, state in states.items()]
    return ", ".join([*reported, *(f"{peer}: not reported" for peer in silent)])[:MAX_DISAGREEMENT]
