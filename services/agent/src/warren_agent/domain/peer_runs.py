"""Which peers' daemons were restarted or do not answer, as the directory says. Pure.

An agent announces the run of its daemon, and whether it answers. When the run changes, the SAs of the run before are gone at that
peer, whatever this end still holds: DPD would notice in minutes.
"""

from collections.abc import Iterable, Mapping

from warren_contracts.names import PeerId
from warren_contracts.peers import PeerRecord
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
from warren_contracts.tunnel import Tunnel

Runs = Mapping[tuple[PeerId, str], str]  # by peer and kind of driver


def runs_of(directory: Mapping[PeerId, PeerRecord]) -> Runs:
    """The runs that the peers of a directory have announced."""
    return {(peer, driver.kind): driver.run for peer, it in directory.items() for driver in it.drivers if driver.run}


def restarted(before: Runs, after: Runs) -> frozenset[PeerId]:
    """The peers of which a daemon has another run than `before`; of a peer that is new, nothing is known to be lost."""
    return frozenset(peer for (peer, kind), run in after.items() if before.get((peer, kind), run) != run)


# All that a peer without its daemon may look like.
_LESS_SPECIFIC = frozenset(
    {
        ReasonCode.NONE,
        ReasonCode.PEER_UNREACHABLE,
        ReasonCode.PEER_NOT_ANSWERING,
        ReasonCode.ONE_WAY_TRAFFIC,
        ReasonCode.PATH_PROBE_FAILED,
    }
)
_STATES = {TunnelState.UP: TunnelState.DEGRADED, TunnelState.STANDBY: TunnelState.DOWN}
_UNREACHABLE = "the peer's agent announces that its IPsec daemon does not answer: look at the peer"
_RESTARTED = "the peer's IPsec daemon was restarted and has lost the SAs: new ones are negotiated"


def without_daemon(tunnels: Iterable[Tunnel], directory: Mapping[PeerId, PeerRecord]) -> frozenset[str]:
    """The tunnels whose peer announces that the daemon of their kind of link does not answer."""
    return frozenset(
        it.name
        for it in tunnels
        if it.peer is not None and it.peer in directory and not directory[it.peer].driver(it.link.kind).reachable
    )


def with_peer_daemon_lost(status: TunnelStatus) -> TunnelStatus:
    """The status of a tunnel whose peer's daemon does not answer: what is up is degraded, what stands by could not take over, and the
    reason names the daemon."""
    return _with_detail(status, _UNREACHABLE)


def with_peer_daemon_restarted(status: TunnelStatus) -> TunnelStatus:
    """The status of a tunnel that is up by SAs that its peer has lost, until new ones are up."""
    return _with_detail(status, _RESTARTED)


def _with_detail(status: TunnelStatus, detail: str) -> TunnelStatus:
    if status.state is TunnelState.ERROR or status.reason not in _LESS_SPECIFIC:
        return status
    state = _STATES.get(status.state, status.state)
    return status.model_copy(update={"state": state, "reason": ReasonCode.PEER_DAEMON_UNREACHABLE, "detail": detail})
