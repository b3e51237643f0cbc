"""Why a tunnel is not up, as a code: the rules of `warren_intent.diagnosis` on what telemetry says.

The policies are not at hand here. The sentence, with the values of both ends, is the API server's.
"""

from collections.abc import Hashable, Mapping, Set
from datetime import datetime
from typing import Any

from warren_contracts import combined
from warren_contracts.explanation import Cause
from warren_contracts.peers import PeerSummary, PresenceState
from warren_contracts.status import FleetTunnel, HostFacts, ReasonCode, TunnelState, TunnelStatus
from warren_intent.diagnosis import End, Situation, cause_of
from warren_metrics.domain.peers import PeerView, TunnelView

Ends = Mapping[str, TunnelView]
Peers = Mapping[str, PeerView]
_NONE: frozenset[str] = frozenset()


def outdated_ends(ends: Ends, peers: Peers) -> frozenset[str]:
    """The ends whose last report does not show how they are now, although their peers are online again."""
    found = [peer for peer, end in ends.items() if peer in peers and peers[peer].is_outdated(end.reported_at)]
    return frozenset(found) if found else _NONE


def is_plainly_up(ends: Ends, peers: Peers, offline: Set[str]) -> bool:
    """Whether every end says that it is up and none is missing: no rule needs to be tried."""
    for view in ends.values():
        if view.state is not TunnelState.UP or view.reason is not ReasonCode.NONE:
            return False
        if view.peer is not None and view.peer not in ends and view.peer in peers and view.peer not in offline:
            return False
    return offline.isdisjoint(ends)


def cause(name: str, ends: Ends, peers: Peers, offline: Set[str], now: datetime) -> Cause:
    """What is wrong with a tunnel; `offline` are those of the known peers that are offline."""
    outdated = outdated_ends(ends, peers)
    if not ends or (not outdated and is_plainly_up(ends, peers, offline)):
        return Cause.NONE
    named = {*ends, *(view.peer for view in ends.values() if view.peer is not None)}
    gone = {peer for peer in named if peer in offline or peer not in peers}
    found = combined.combined_state(ends, gone | outdated)
    tunnel = FleetTunnel.model_construct(
        name=name, state=found.state, disagreement=found.disagreement, peers=found.peers, ends={}, stale=found.stale
    )
    known = tuple(
        _end(peer, ends.get(peer), peers.get(peer), offline=peer in gone, stale=peer in found.stale)
        for peer in found.peers
    )
    return cause_of(Situation(tunnel, known, now))


def cause_at(name: str, ends: Ends, peers: Peers, now: datetime) -> Cause:
    """The same, of the peers that are online now."""
    named = (*ends, *(view.peer for view in ends.values() if view.peer is not None))
    offline = {peer for peer in named if (known := peers.get(peer)) is None or not known.online(now)}
    return cause(name, ends, peers, offline, now)


def facts(ends: Ends, peers: Peers, offline: Set[str]) -> Hashable:
    """What the cause of a tunnel depends on: equal facts have the same cause."""
    named = sorted({*ends, *(view.peer for view in ends.values() if view.peer is not None)})
    outdated = outdated_ends(ends, peers)
    return tuple(
        [
            (peer, _of_end(ends.get(peer)), _of_peer(peers.get(peer)), peer in offline, peer in outdated)
            for peer in named
        ]
    )


def _of_end(view: TunnelView | None) -> Hashable:
    return None if view is None else (view.state, view.reason, view.detail, view.skipped, view.initiator)


def _of_peer(view: PeerView | None) -> Hashable:
    return None if view is None else (view.drivers, view.behind_nat, round((view.clock_skew_s or 0.0) / 60.0))


def _end(peer: str, view: TunnelView | None, known: PeerView | None, *, offline: bool, stale: bool) -> End:
    status = None
    if view is not None:
        status = TunnelStatus.model_construct(
            name="", state=view.state, reason=view.reason, detail=view.detail, skipped=view.skipped, initiator=view.initiator,
            peer=view.peer,
        )  # fmt: skip
    fields: dict[str, Any] = {
        "peer": peer, "presence": PresenceState.OFFLINE if offline else PresenceState.ONLINE, "last_seen": None, "drivers": (),
        "clock_skew_s": None, "host": None,
    }  # fmt: skip
    if known is not None:
        fields |= {"last_seen": known.last_seen_at, "drivers": known.drivers, "clock_skew_s": known.clock_skew_s}
        fields["host"] = HostFacts.model_construct(behind_nat=known.behind_nat)
    return End(
        peer=peer,
        status=status,
        is_stale=stale,
        reported_at=view.reported_at if view is not None else None,
        summary=PeerSummary.model_construct(**fields),
    )
