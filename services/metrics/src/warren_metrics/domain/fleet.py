"""The fleet's state in memory: observations in, events out.

Messages of a peer are processed in the order of the stream (heartbeats have one of their own); one that is older than the last
changes nothing here: it was processed before, or it was lost, and a later report contains its state. An applied revision and a
state that has passed are in no report, so their events are published however late they arrive (the id of an event is made of its
cause: the stream stores one of two).
A complete report (all its parts) also removes: a tunnel that it does not contain no longer exists. If it is not late
(`domain/lateness.py`), it confirms what is known of its peer.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import repeat

from warren_contracts.base import amended
from warren_contracts.events import ReportingChanged, TunnelChanged
from warren_contracts.status import IpsecStatus, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import Applied, AttemptFailure, Report, TunnelChange
from warren_metrics.domain.budget import MAX_WEIGHT, weight
from warren_metrics.domain.causes import cause_at
from warren_metrics.domain.changed_names import ChangedNames
from warren_metrics.domain.changes import Changes, Event, TunnelKey, merged
from warren_metrics.domain.flood import BURST, EVENT_WEIGHT, NEW_BURST, NEW_RATE, RATE
from warren_metrics.domain.lateness import in_order, report_time
from warren_metrics.domain.parse import Body, MessageSource, Observation, may_report
from warren_metrics.domain.peer_updates import last_source, updated
from warren_metrics.domain.peers import PeerView, TunnelView
from warren_metrics.domain.policy_gateways import PolicyGateways
from warren_metrics.domain.report_parts import ReportParts, TooManyTunnelsError
from warren_metrics.domain.sorted_names import SortedNames
from warren_metrics.domain.transitions import (
    failed_without_attempt,
    handshake_seconds,
    is_change,
    policy_applied,
    rekey_seconds,
    tunnel_changed,
)  # fmt: skip
from warren_metrics.domain.unreported_ends import UnreportedEnds
from warren_process.token_bucket import TokenBucket

MAX_TUNNELS_OF_PEER = (
    10_000  # ten times the gateway that the agent is measured with; more is refused, so that memory is bounded
)
FORGET_AFTER = timedelta(days=7)  # without a message: a peer that was revoked or removed, and its tunnels


class FleetTelemetry:
    """The state of every peer. Not thread-safe: one event loop owns it."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerView] = {}
        self.tunnels: dict[str, dict[str, TunnelView]] = {}  # by tunnel, then by reporting peer
        self.names = SortedNames()  # of the tunnels
        self.unreported = UnreportedEnds()
        self.changed = ChangedNames()  # tunnels, for the exposition
        self.gateways = PolicyGateways()
        self._of_peer: dict[str, dict[str, int]] = {}  # the names that a peer reports, in order, and their weights
        self._parts = ReportParts()
        self._weights: dict[str, int] = {}  # approximate bytes of a peer's tunnels
        self._buckets: dict[str, TokenBucket] = {}  # of events
        self._newcomers: dict[str, TokenBucket] = {}  # of tunnels seen for the first time
        self._ends: Mapping[str, frozenset[str]] = {}  # of explicit tunnels, by their names

    def restore(self, peers: Mapping[str, PeerView], tunnels: Mapping[TunnelKey, TunnelView]) -> None:
        """Restore the stored state after a restart; messages that arrived since take precedence.

        Counters are stored up to a minute late, and after a crash the stored ones may be lower than those that were shown: to
        Prometheus a reset, after which it counts the whole total again. They are known for certain where the tunnel's row is not
        older than the last message of its peer, and that peer was offline when the state was stored; of all others with the next
        report.
        """
        fresh = set(self.peers)
        newest = max((view.last_seen_at for view in peers.values()), default=datetime.min.replace(tzinfo=UTC))
        for peer, view in peers.items():
            self.peers.setdefault(peer, view)
        for (peer, name), tunnel in tunnels.items():
            if peer not in fresh and self._fits_budget(peer, name, tunnel.weight):
                known = peers.get(peer)
                is_last = known is not None and (known.stored_at is None or tunnel.reported_at >= known.stored_at)
                certain = known is not None and is_last and not known.online(newest)
                self._put(peer, name, tunnel._replace(counters_known=certain))

    def set_ends(self, ends: Mapping[str, frozenset[str]]) -> Changes:
        """Replace the ends of explicit tunnels, and drop the views of peers that are not an end."""
        self._ends = ends
        changes = Changes()
        for name, peers in ends.items():
            for peer in [peer for peer in self.tunnels.get(name, ()) if peer not in peers]:
                self._drop(peer, name)
                changes.tunnels.add((peer, name))
        return changes

    def observe(self, observation: Observation) -> Changes:
        """Process one message."""
        changes = Changes()
        peer, place = observation.peer, observation.place
        known = self.peers.get(peer)
        time = report_time(known, place, observation.body)
        if not place.follows(last_source(known, observation.body)):
            self._late(peer, place if time is None else time.placed(place), observation.body, changes)
            return changes
        if time is not None:
            time = in_order(time, known, place)
            place, changes.at = time.placed(place), time.at
        self.peers[peer] = updated(known, observation.place, observation.body, time)
        changes.peers.add(peer)
        until = self.peers[peer].outdated_until
        if until is not None and (known is None or until != known.outdated_until):
            event = ReportingChanged(peer=peer, outdated_until=until, at=observation.place.at)
            self._emit(changes, observation.place, event)
        match observation.body:
            case Report() as report:
                self._report(peer, place, report, observation.encoded, changes)
            case TunnelChange() as change:
                self._tunnel(peer, place, change, changes)
            case Applied() as applied:
                self._applied(peer, place, applied, changes)
            case AttemptFailure(code=ReasonCode.CONFIG_DRIFT):
                view = self.peers[peer]
                self.peers[peer] = view.model_copy(update={"config_drifts": view.config_drifts + 1})
        return changes

    def forget(self, now: datetime) -> Changes:
        """Drop the peers without a message for FORGET_AFTER, with their tunnels."""
        silent = [peer for peer, view in self.peers.items() if now - view.last_seen_at >= FORGET_AFTER]
        return merged(self.remove(peer) for peer in silent)

    def remove(self, peer: str) -> Changes:
        """Drop a peer with its tunnels."""
        changes = Changes()
        if self.peers.pop(peer, None) is not None:
            changes.peers.add(peer)
        for name in self.names_of(peer):
            self._drop(peer, name)
            changes.tunnels.add((peer, name))
        self._parts.forget(peer)
        self._buckets.pop(peer, None)
        self._newcomers.pop(peer, None)
        return changes

    def tunnel(self, key: TunnelKey) -> TunnelView | None:
        """One end's view of one tunnel."""
        peer, name = key
        ends = self.tunnels.get(name)
        return None if ends is None else ends.get(peer)

    def names_of(self, peer: str) -> tuple[str, ...]:
        """The tunnels that a peer reports."""
        return tuple(self._of_peer.get(peer, ()))

    def _late(self, peer: str, place: MessageSource, body: Body, changes: Changes) -> None:
        """Publish what no later message contains: an applied revision, and a state that has passed. The view stays as it is."""
        if isinstance(body, Applied):
            self._emit(changes, place, policy_applied(peer, place, body))
        elif isinstance(body, TunnelChange) and may_report(peer, body.status.name, self._ends):
            self._emit(changes, place, tunnel_changed(peer, place, body.status, None, removed=body.removed))

    def _report(
        self, peer: str, place: MessageSource, report: Report, encoded: tuple[bytes, ...], changes: Changes
    ) -> None:
        self.peers[peer] = amended(
            self.peers[peer], policy_sync_errors=report.policy_sync_errors, dpd_failures=report.dpd_failures
        )
        for status, text in zip(report.tunnels, encoded or repeat(b""), strict=False):
            self._status(peer, place, status, changes, encoded=text)
        try:
            complete = self._parts.add(peer, report, MAX_TUNNELS_OF_PEER)
        except TooManyTunnelsError:
            changes.rejected.append("too-many-tunnels")
            return
        if complete is not None:
            for name in [name for name in self._of_peer.get(peer, ()) if name not in complete]:
                self._removed(peer, place, name, changes)
            self._confirm(peer, place, changes)

    def _confirm(self, peer: str, place: MessageSource, changes: Changes) -> None:
        """Process that a report of all tunnels is complete: unless it is late, none is outdated any more."""
        view = self.peers[peer]
        if view.outdated_until is None or view.is_outdated(place.at):
            return
        # Who follows the events would wait for it forever: beyond the rate, the next report confirms it
        if self._emit(changes, place, ReportingChanged(peer=peer, outdated_until=None, at=place.at)):
            self.peers[peer] = amended(view, outdated_until=None)

    def _tunnel(self, peer: str, place: MessageSource, change: TunnelChange, changes: Changes) -> None:
        if not change.removed:
            self._parts.forget(peer)  # created while the parts of a report arrived: that report cannot remove it
        if change.removed:
            self._removed(peer, place, change.status.name, changes, change.status)
        else:
            self._status(peer, place, change.status, changes, change)

    def _status(
        self,
        peer: str,
        place: MessageSource,
        status: TunnelStatus,
        changes: Changes,
        change: TunnelChange | None = None,
        encoded: bytes = b"",
    ) -> None:
        name = status.name
        if not may_report(peer, name, self._ends):
            changes.rejected.append("foreign-tunnel")
            return
        key = peer, name
        before = self.tunnel(key)
        if before is None and not self._may_be_new(peer, place):
            changes.rejected.append("too-many-tunnels")
            return
        view = TunnelView.of(status, place.at, encoded, before)
        if not self._store(peer, name, view, before):
            changes.rejected.append("over-budget")
            return
        if (taken := rekey_seconds(before.rekeys if before is not None else None, status)) is not None:
            changes.rekeyings.append(taken)
        if before is not None and change is None and (before.state, before.reason) == (view.state, view.reason):
            changes.counters.add(key)
            return  # the regular report: no transition, so the former status need not be parsed
        changes.tunnels.add(key)
        known = None if before is None else before.status
        if failed_without_attempt(known, status):
            changes.broken.append(status.reason)
        if (seconds := handshake_seconds(known, status)) is not None:
            changes.handshakes.append(seconds)
        first_packet_at = None if change is None else change.first_packet_at
        if first_packet_at is not None or is_change(known, status, with_sas=change is not None):
            is_outdated = self.peers[peer].is_outdated(place.at)
            found = None if is_outdated else cause_at(name, self.tunnels[name], self.peers, place.at)
            event = tunnel_changed(peer, place, status, known, removed=False, found=found)
            self._emit(changes, place, event.model_copy(update={"first_packet_at": first_packet_at}))

    def _removed(
        self, peer: str, place: MessageSource, name: str, changes: Changes, last: TunnelStatus | None = None
    ) -> None:
        before = self.tunnel((peer, name))
        if before is None:
            return
        self._drop(peer, name)
        changes.tunnels.add((peer, name))
        status = last or before.status.model_copy(update={"state": TunnelState.DOWN, "link": IpsecStatus()})
        self._emit(changes, place, tunnel_changed(peer, place, status, before.status, removed=True))
        # An end that is offline cannot report the removal: its last view would be listed for days. Should its agent come
        # back and still have the tunnel, its first report lists it again.
        for other in [it for it in self.tunnels.get(name, ()) if not self._is_online(it, place)]:
            self._drop(other, name)
            changes.tunnels.add((other, name))

    def _is_online(self, peer: str, place: MessageSource) -> bool:
        view = self.peers.get(peer)
        return view is not None and view.online(place.at)

    def _applied(self, peer: str, place: MessageSource, applied: Applied, changes: Changes) -> None:
        update = {"received_epoch": applied.epoch, "received_revision": applied.revision}
        if applied.ok:
            if applied.revision > self.peers[peer].applied_revision:
                changes.converged.append((peer, applied.revision))
            update |= {"applied_epoch": applied.epoch, "applied_revision": applied.revision}
        self.peers[peer] = self.peers[peer].model_copy(update=update)
        changes.applied_ms.append(applied.duration_ms)
        changes.failed += not applied.ok
        self._emit(changes, place, policy_applied(peer, place, applied))

    def _emit(self, changes: Changes, place: MessageSource, event: Event) -> bool:
        bucket = self._buckets.setdefault(event.peer, TokenBucket(BURST, RATE))
        cost = 1 + weight(event.status) // EVENT_WEIGHT if isinstance(event, TunnelChanged) else 1
        if not bucket.take(place.at.timestamp(), cost):
            changes.suppressed += 1
            return False
        changes.events.append(event)
        return True

    def _may_be_new(self, peer: str, place: MessageSource) -> bool:
        if len(self._of_peer.get(peer, ())) >= MAX_TUNNELS_OF_PEER:
            return False
        return self._newcomers.setdefault(peer, TokenBucket(NEW_BURST, NEW_RATE)).take(place.at.timestamp())

    def _fits_budget(self, peer: str, name: str, taken: int) -> bool:
        """Whether the peer's tunnels stay within its budget with this one. A tunnel that shrinks is always accepted."""
        more = taken - self._weight_of(peer, name)
        return more <= 0 or self._weights.get(peer, 0) + more <= MAX_WEIGHT

    def _weight_of(self, peer: str, name: str) -> int:
        return self._of_peer.get(peer, {}).get(name, 0)

    def _store(self, peer: str, name: str, view: TunnelView, before: TunnelView | None) -> bool:
        """Store a view; False: it does not fit into the peer's budget."""
        if before is not None and (before.weight, before.policy, before.peer) == (view.weight, view.policy, view.peer):
            self.tunnels[name][peer] = view  # as nearly all of regular reports: what follows from it is the same
            self.changed.add(name)
            return True
        if not self._fits_budget(peer, name, view.weight):
            return False
        self._put(peer, name, view)
        return True

    def _put(self, peer: str, name: str, view: TunnelView) -> None:
        names = self._of_peer.get(peer)
        if names is None:
            names = self._of_peer[peer] = {}
        self._weights[peer] = self._weights.get(peer, 0) + view.weight - names.get(name, 0)
        names[name] = view.weight
        ends = self.tunnels.get(name)
        if ends is None:
            ends = self.tunnels[name] = {}
            self.names.add(name)
        before = ends.get(peer)
        policy = None if before is None else before.policy
        if policy != view.policy:
            self.gateways.change(peer, name, policy, view.policy)
        ends[peer] = view
        if before is None or before.peer != view.peer:
            self.unreported.update(name, ends)
        self.changed.add(name)

    def _drop(self, peer: str, name: str) -> None:
        self._weights[peer] -= self._weight_of(peer, name)
        ends = self.tunnels[name]
        gone = ends.pop(peer)
        if gone.policy is not None:
            self.gateways.change(peer, name, gone.policy, None)
        self.unreported.update(name, ends)
        self.changed.add(name)
        if not ends:
            del self.tunnels[name]
            self.names.remove(name)
        names = self._of_peer[peer]
        del names[name]
        if not names:
            del self._of_peer[peer], self._weights[peer]
