"""The part of a fleet that a scope is, and what is shown of each document to a reader of it. Pure.

A peer belongs to it that carries a tag of the scope, and a tunnel of which one end does. The other end of such a tunnel is its far end: its
name and its state are a part of the tunnel, its record is not. What its agent writes in words is left out, as it may name others.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from warren_contracts.base import amended
from warren_contracts.names import PeerId
from warren_contracts.peers import PeerSummary
from warren_contracts.status import FleetTunnel
from warren_contracts.tunnel_history import (
    AppliedEntry,
    EndCounters,
    FleetObserved,
    HistoryEntry,
    HistoryStrip,
    PresenceEntry,
    StateEntry,
    TunnelCounters,
    TunnelHistory,
    up_ratio,
)

REFUSED = "the registry refuses what it announces: an operator of the whole fleet sees why"


@dataclass(frozen=True, slots=True)
class ScopeView:
    """The peers of a scope, and since when each belongs to it."""

    since: Mapping[PeerId, datetime]

    @property
    def peers(self) -> tuple[PeerId, ...]:
        """The peers, in order."""
        return tuple(sorted(self.since))

    def peers_at(self, at: datetime) -> tuple[PeerId, ...]:
        """Those that belonged to it at an instant, and do now."""
        return tuple(sorted(peer for peer, since in self.since.items() if since <= at))

    def has_peer(self, peer: PeerId) -> bool:
        """Whether a peer belongs to it."""
        return peer in self.since

    def has_tunnel(self, peers: Iterable[PeerId]) -> bool:
        """Whether a tunnel with these ends belongs to it."""
        return any(peer in self.since for peer in peers)

    def has_event(self, peers: Iterable[PeerId], at: datetime) -> bool:
        """Whether one of these peers belongs to it, and did when something happened."""
        return any(peer in self.since and self.since[peer] <= at for peer in peers)

    def since_of(self, peers: Iterable[PeerId]) -> datetime | None:
        """Since when a tunnel with these ends belongs to it; None: it does not."""
        return min((self.since[peer] for peer in peers if peer in self.since), default=None)

    def peer(self, summary: PeerSummary) -> PeerSummary:
        """What is shown of a peer: all of it, but for the reason of a refusal, which names the peer that it conflicts with."""
        return summary.model_copy(update={"refused": REFUSED}) if summary.refused else summary

    def far_peer(self, summary: PeerSummary) -> PeerSummary:
        """What an explanation may use of a far end: nothing that its agent or the registry has put into words."""
        if self.has_peer(summary.peer):
            return summary
        drivers = tuple(driver.model_copy(update={"detail": ""}) for driver in summary.drivers)
        return summary.model_copy(update={"drivers": drivers, "refused": "", "hosts": ()})

    def tunnel(self, tunnel: FleetTunnel) -> FleetTunnel:
        """What is shown of a tunnel."""
        if all(peer in self.since or not status.detail for peer, status in tunnel.ends.items()):
            return tunnel
        ends = {
            peer: status if peer in self.since else amended(status, detail="") for peer, status in tunnel.ends.items()
        }
        return tunnel.model_copy(update={"ends": ends})

    def tunnels(self, tunnels: Iterable[FleetTunnel]) -> tuple[FleetTunnel, ...]:
        """Those tunnels that belong to it, as they are shown."""
        return tuple(self.tunnel(tunnel) for tunnel in tunnels if self.has_tunnel(tunnel.peers))

    def observed(self, observed: FleetObserved) -> FleetObserved:
        """What is shown of the past fleet; numbers and pages are of its part already (`FleetAtQuery.ends`)."""
        return observed.model_copy(
            update={
                "tunnels": self.tunnels(observed.tunnels),
                "peers": tuple(it for it in observed.peers if self.has_peer(it.peer)),
                "offline": tuple(peer for peer in observed.offline if self.has_peer(peer)),
            }
        )

    def history(self, history: TunnelHistory, peers: Collection[PeerId]) -> TunnelHistory | None:
        """What is shown of a tunnel's history: from when it belongs to the scope on. None: it does not."""
        since = self.since_of(peers)
        if since is None:
            return None
        within = [entry for entry in history.entries if entry.at >= since]
        is_cut = len(within) < len(history.entries)
        shown = tuple(entry for it in within if (entry := self._entry(it)) is not None)
        return history.model_copy(
            update={
                "entries": shown, "next_before": None if is_cut else history.next_before, "begins": max(history.begins, since),
                "last_24h": _strip_since(history.last_24h, since), "last_7d": _strip_since(history.last_7d, since),
            }
        )  # fmt: skip

    def counters(self, counters: TunnelCounters, peers: Collection[PeerId]) -> TunnelCounters | None:
        """What is shown of a tunnel's traffic: from when it belongs to the scope on. None: it does not."""
        since = self.since_of(peers)
        if since is None:
            return None
        hidden = -(-max(0.0, (since - counters.start).total_seconds()) // counters.step_seconds)
        return counters.model_copy(
            update={"ends": {peer: _counters_after(end, int(hidden)) for peer, end in counters.ends.items()}}
        )

    def _entry(self, entry: HistoryEntry) -> HistoryEntry | None:
        """What is shown of an entry. The revisions that a far end applies are mostly those of others."""
        if self.has_peer(entry.peer):
            return entry
        match entry:
            case StateEntry():
                return entry.model_copy(update={"detail": ""})
            case PresenceEntry():
                return entry.model_copy(update={"reason": ""})
            case AppliedEntry():
                return None


def _strip_since(strip: HistoryStrip | None, since: datetime) -> HistoryStrip | None:
    """A strip without the buckets that begin before a moment."""
    if strip is None or strip.start >= since:
        return strip
    step = timedelta(seconds=strip.bucket_seconds)
    buckets = tuple(
        seconds if strip.start + number * step >= since else {} for number, seconds in enumerate(strip.buckets)
    )
    return strip.model_copy(update={"buckets": buckets, "up_ratio": up_ratio(buckets)})


def _counters_after(end: EndCounters, hidden: int) -> EndCounters:
    """Counters without their first steps."""
    if not hidden:
        return end
    none = (None,) * min(hidden, len(end.bytes_in))
    return EndCounters(bytes_in=none + end.bytes_in[hidden:], bytes_out=none + end.bytes_out[hidden:])
