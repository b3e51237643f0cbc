"""The fleet as the API server knows it: read once, then kept by the events of EVENT. Pure.

An event may be older than what was read (the reading began after the position in the stream was taken), and a change of a tunnel may
arrive late: it has an effect only if it is newer than what is known of its end.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from warren_contracts.base import Document, amended
from warren_contracts.combined import combined_state
from warren_contracts.commands import StoredPolicy
from warren_contracts.events import (
    PeerEnrolled,
    PeerRetagged,
    PeerRevoked,
    PolicyApplied,
    PolicyChanged,
    PresenceChanged,
    ReportingChanged,
    TunnelChanged,
)
from warren_contracts.live import LivePeer, LivePolicy, LiveTunnel
from warren_contracts.peers import PeerSummary, PresenceState
from warren_contracts.status import FleetTunnel, IpsecStatus, ReasonCode, TrafficStats, TunnelStatus

RowT = TypeVar("RowT", LiveTunnel, LivePeer, LivePolicy)

_NO_SAS, _NO_TRAFFIC = IpsecStatus(), TrafficStats()


class Row(Generic[RowT]):
    """A row and its JSON, which is made once for all readers."""

    __slots__ = ("_json", "value")

    def __init__(self, value: RowT) -> None:
        self.value: RowT = value
        self._json: str | None = None

    @property
    def json(self) -> str:
        if self._json is None:
            self._json = self.value.model_dump_json(exclude_defaults=True)
        return self._json


@dataclass(frozen=True, slots=True)
class RowChange(Generic[RowT]):
    """A row before and after an event; None: there is none."""

    name: str
    before: Row[RowT] | None
    after: Row[RowT] | None


@dataclass(slots=True)
class LiveChange:
    """What one event changes. `cursor` is its sequence in EVENT."""

    cursor: int
    tunnels: list[RowChange[LiveTunnel]] = field(default_factory=list)
    peers: list[RowChange[LivePeer]] = field(default_factory=list)
    policies: list[RowChange[LivePolicy]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self.tunnels) + len(self.peers) + len(self.policies)


@dataclass(slots=True)
class _TunnelEnd:
    status: TunnelStatus
    at: datetime


class LiveModel:
    """The rows of the fleet."""

    def __init__(self) -> None:
        self.tunnels: dict[str, Row[LiveTunnel]] = {}
        self.peers: dict[str, Row[LivePeer]] = {}
        self.policies: dict[str, Row[LivePolicy]] = {}
        self._ends: dict[str, dict[str, _TunnelEnd]] = {}
        self._tunnels_of: dict[str, set[str]] = {}  # by peer, also those that only the other end reports
        self._offline: set[str] = set()
        self._seen: dict[str, datetime] = {}  # by peer: of its last presence
        self._outdated: dict[str, datetime] = {}  # by peer: what it reported before is outdated

    def load(
        self, tunnels: Iterable[FleetTunnel], peers: Iterable[PeerSummary], policies: Iterable[StoredPolicy]
    ) -> None:
        """Fill an empty model; more tunnels may follow."""
        for summary in peers:
            if not summary.revoked:
                since = None if summary.presence is PresenceState.ONLINE else summary.last_seen
                self._put_peer(LivePeer(peer=summary.peer, presence=summary.presence, tags=summary.tags, since=since))
        self.load_tunnels(tunnels)
        for stored in policies:
            self.policies[stored.policy.id] = Row(
                LivePolicy(
                    id=stored.policy.id, version=stored.policy.version, revision=stored.revision,
                    updated_at=stored.updated_at, actor=stored.actor,
                )
            )  # fmt: skip

    def load_tunnels(self, tunnels: Iterable[FleetTunnel]) -> None:
        """Add tunnels, whose peers are known already."""
        for tunnel in tunnels:
            for peer, status in tunnel.ends.items():
                at = tunnel.reported_at.get(peer)
                if at is not None:
                    if peer in tunnel.outdated:
                        self._outdated[peer] = max(self._outdated.get(peer, at), at + timedelta.resolution)
                    self._ends.setdefault(tunnel.name, {})[peer] = _TunnelEnd(_lean(status), at)
            for peer in tunnel.peers:
                self._tunnels_of.setdefault(peer, set()).add(tunnel.name)
            if tunnel.name in self._ends:
                self.tunnels[tunnel.name] = Row(self._combined(tunnel.name))

    def tunnels_of(self, peer: str) -> Set[str]:
        """The tunnels of a peer, also those that only the other end reports."""
        return self._tunnels_of.get(peer, frozenset())

    def tunnel_of_scope(self, name: str, scope: Set[str]) -> LiveTunnel | None:
        """A tunnel as a reader of a scope sees it: of an end without a tag of it, no tags and no words. None: no end has one."""
        held = self.tunnels.get(name)
        if held is None:
            return None
        own = {
            peer
            for peer in held.value.peers
            if peer in self.peers and not scope.isdisjoint(self.peers[peer].value.tags)
        }
        return self._combined(name, own) if own else None

    def apply(self, event: Document, cursor: int) -> LiveChange:
        """Process an event; returns what it changes, if anything."""
        change = LiveChange(cursor)
        match event:
            case TunnelChanged():
                self._tunnel(event, change)
            case PresenceChanged():
                self._presence(event, change)
            case ReportingChanged():
                self._reporting(event, change)
            case PeerRevoked():
                self._revoked(event.peer, change)
            case PeerRetagged():
                self._peer(event.peer, change, tags=event.tags)
            case PeerEnrolled():
                self._enrolled(event, change)
            case PolicyApplied() if event.ok:
                self._applied(event, change)
            case PolicyChanged():
                self._policy(event, change)
        return change

    def _tunnel(self, event: TunnelChanged, change: LiveChange) -> None:
        ends = self._ends.get(event.tunnel, {})
        held = ends.get(event.peer)
        if held is not None and event.at < held.at:
            return
        if not event.removed:
            self._ends.setdefault(event.tunnel, {})[event.peer] = _TunnelEnd(_lean(event.status), event.at)
            for peer in {event.peer, event.status.peer or event.peer}:
                self._tunnels_of.setdefault(peer, set()).add(event.tunnel)
        elif held is None:
            return
        else:
            # As in the metrics service: an end that is offline cannot report the removal
            for peer in [peer for peer in ends if peer == event.peer or peer in self._offline]:
                del ends[peer]
        self._recombine({event.tunnel}, change)

    def _presence(self, event: PresenceChanged, change: LiveChange) -> None:
        if event.at < self._seen.get(event.peer, event.at) or event.peer not in self.peers:
            return
        self._seen[event.peer] = event.at
        self._peer(event.peer, change, presence=event.state, reason=event.reason, since=event.at)

    def _reporting(self, event: ReportingChanged, change: LiveChange) -> None:
        if event.outdated_until is not None:
            self._outdated[event.peer] = event.outdated_until
        else:
            self._outdated.pop(event.peer, None)
        self._recombine(self._tunnels_of.get(event.peer, set()), change)

    def _enrolled(self, event: PeerEnrolled, change: LiveChange) -> None:
        if event.peer in self.peers:
            self._peer(event.peer, change, tags=event.tags)
            return
        row = self._put_peer(LivePeer(peer=event.peer, presence=PresenceState.UNKNOWN, tags=event.tags, since=event.at))
        change.peers.append(RowChange(event.peer, None, row))

    def _peer(self, peer: str, change: LiveChange, **fields: object) -> None:
        before = self.peers.get(peer)
        if before is None:
            return
        after = before.value.model_copy(update=fields)
        if after == before.value:
            return
        affects = (after.presence, after.tags) != (before.value.presence, before.value.tags)
        change.peers.append(RowChange(peer, before, self._put_peer(after)))
        if affects:
            self._recombine(self._tunnels_of.get(peer, set()), change)

    def _revoked(self, peer: str, change: LiveChange) -> None:
        before = self.peers.pop(peer, None)
        self._offline.discard(peer)
        self._seen.pop(peer, None)
        self._outdated.pop(peer, None)
        if before is not None:
            change.peers.append(RowChange(peer, before, None))
        names = self._tunnels_of.pop(peer, set())
        for name in names:
            self._ends.get(name, {}).pop(peer, None)
        self._recombine(names, change)

    def _applied(self, event: PolicyApplied, change: LiveChange) -> None:
        held = self.peers.get(event.peer)
        if held is not None and event.revision > held.value.applied_revision:
            self._peer(event.peer, change, applied_revision=event.revision)

    def _policy(self, event: PolicyChanged, change: LiveChange) -> None:
        before = self.policies.get(event.policy)
        if before is not None and event.revision <= before.value.revision:
            return
        if event.action == "deleted":
            if before is not None:
                del self.policies[event.policy]
                change.policies.append(RowChange(event.policy, before, None))
            return
        after = Row(
            LivePolicy(
                id=event.policy, version=event.version, revision=event.revision, updated_at=event.at, actor=event.actor
            )
        )
        self.policies[event.policy] = after
        change.policies.append(RowChange(event.policy, before, after))

    def _put_peer(self, peer: LivePeer) -> Row[LivePeer]:
        row = self.peers[peer.peer] = Row(peer)
        if peer.presence is PresenceState.ONLINE:
            self._offline.discard(peer.peer)
        else:
            self._offline.add(peer.peer)
        return row

    def _recombine(self, names: Iterable[str], change: LiveChange) -> None:
        for name in sorted(names):
            before = self.tunnels.get(name)
            if not self._ends.get(name):
                self._ends.pop(name, None)
                if before is not None:
                    del self.tunnels[name]
                    change.tunnels.append(RowChange(name, before, None))
                continue
            after = self._combined(name)
            if before is None or before.value != after:
                row = self.tunnels[name] = Row(after)
                change.tunnels.append(RowChange(name, before, row))

    def _combined(self, name: str, own: Set[str] | None = None) -> LiveTunnel:
        """The row of a tunnel. `own`: the ends of which all is shown; None: each."""
        ends = {peer: end.status for peer, end in self._ends[name].items()}
        outdated = [
            peer for peer, end in self._ends[name].items() if peer in self._outdated and end.at < self._outdated[peer]
        ]
        found = combined_state(ends, self._offline.union(outdated) if outdated else self._offline)
        current = [ends[peer] for peer in sorted(ends) if peer not in found.stale] or [ends[it] for it in sorted(ends)]
        cause = next((it for it in current if it.reason is not ReasonCode.NONE), current[0])
        tagged = [peer for peer in found.peers if peer in self.peers and (own is None or peer in own)]
        tags = {tag for peer in tagged for tag in self.peers[peer].value.tags}
        if own is not None and not any(ends[peer] is cause for peer in own & ends.keys()):
            cause = amended(cause, detail="")
        return LiveTunnel(
            name=name, state=found.state, peers=found.peers, tags=tuple(sorted(tags)), policy=current[0].policy,
            reason=cause.reason, detail=cause.detail, disagreement=found.disagreement,
            since=max((it.since for it in current if it.since is not None), default=None),
            reported_at=max(end.at for end in self._ends[name].values()),
            ends={peer: ends[peer].state for peer in sorted(ends)}, stale=found.stale,
        )  # fmt: skip


def _lean(status: TunnelStatus) -> TunnelStatus:
    """A status without its SAs and counters."""
    return amended(status, link=_NO_SAS, traffic=_NO_TRAFFIC)
