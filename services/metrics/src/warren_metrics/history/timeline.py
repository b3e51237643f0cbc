"""Entries and strips of one tunnel, from its rows and those of its ends. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from warren_contracts.combined import stands_by, worst
from warren_contracts.peers import PresenceState
from warren_contracts.status import TunnelState, TunnelStatus
from warren_contracts.tunnel_history import AppliedEntry, HistoryStrip, PresenceEntry, StateEntry, up_ratio
from warren_metrics.history.rows import AppliedRow, PeerRow, TunnelRow


def state_entries(rows: Sequence[TunnelRow], before: dict[str, TunnelRow]) -> list[tuple[TunnelRow, StateEntry]]:
    """The transitions in these rows, oldest first; a row that repeats what its end reported before is none.

    `before`: the last row of each end before the first of `rows`.
    """
    last = dict(before)
    found: list[tuple[TunnelRow, StateEntry]] = []
    for row in sorted(rows, key=_order):
        previous = last.get(row.peer)
        last[row.peer] = row
        if previous is not None and previous.shown == row.shown:
            continue
        entry = StateEntry(
            at=row.place.at, peer=row.peer, state=row.state, reason=row.reason, detail=row.detail, policy=row.policy,
            removed=row.removed, previous=None if previous is None or previous.removed else previous.state,
        )  # fmt: skip
        found.append((row, entry))
    return found


def presence_entry(row: PeerRow) -> PresenceEntry:
    """The entry of a row."""
    return PresenceEntry(at=row.place.at, peer=row.peer, presence=row.presence, reason=row.reason)


def applied_entry(row: AppliedRow) -> AppliedEntry:
    """The entry of a row."""
    return AppliedEntry(
        at=row.place.at, peer=row.peer, epoch=row.epoch, revision=row.revision, ok=row.ok, duration_ms=row.duration_ms,
        error=row.error,
    )  # fmt: skip


@dataclass(slots=True)
class TunnelTimeline:
    """The state of a tunnel while its rows are played back."""

    ends: dict[str, TunnelStatus] = field(default_factory=dict)
    offline: set[str] = field(default_factory=set)

    def play(self, row: TunnelRow | PeerRow) -> None:
        """Apply one row."""
        if isinstance(row, PeerRow):
            if row.presence is PresenceState.ONLINE:
                self.offline.discard(row.peer)
            else:
                self.offline.add(row.peer)
                if row.revoked:
                    self.ends.pop(row.peer, None)
        elif row.removed:
            self.ends.pop(row.peer, None)
        else:
            self.ends[row.peer] = row.status()

    @property
    def state(self) -> TunnelState | None:
        """The state of the tunnel; None: no end reports it."""
        if not self.ends:
            return None
        current = {
            TunnelState.STANDBY if stands_by(self.ends, peer) else status.state
            for peer, status in self.ends.items() if peer not in self.offline
        }  # fmt: skip
        return worst(current)


def strip(
    rows: Iterable[TunnelRow | PeerRow], start: datetime, end: datetime, count: int, known_from: datetime
) -> HistoryStrip:
    """The states between two moments in `count` buckets. `rows` may begin earlier; before `known_from` nothing is known."""
    length = (end - start) / count
    buckets: list[dict[TunnelState, float]] = [{} for _ in range(count)]
    timeline = TunnelTimeline()
    now = start
    for row in sorted(rows, key=_order):
        at = min(max(row.place.at, start), end)
        _fill(buckets, timeline.state, max(now, known_from), at, start, length)
        now = max(now, at)
        timeline.play(row)
    _fill(buckets, timeline.state, max(now, known_from), end, start, length)
    return HistoryStrip(
        start=start, bucket_seconds=int(length.total_seconds()),
        buckets=tuple({state: round(seconds, 3) for state, seconds in bucket.items()} for bucket in buckets),
        up_ratio=up_ratio(buckets),
    )  # fmt: skip


def _fill(
    buckets: list[dict[TunnelState, float]], state: TunnelState | None, begin: datetime, end: datetime, start: datetime,
    length: timedelta,
) -> None:  # fmt: skip
    """Add the time between two moments to the buckets in which it lies."""
    if state is None:
        return
    index = max(int((begin - start) / length), 0)
    while begin < end and index < len(buckets):
        border = min(start + length * (index + 1), end)
        if border > begin:
            bucket = buckets[index]
            bucket[state] = bucket.get(state, 0.0) + (border - begin).total_seconds()
            begin = border
        index += 1


def _order(row: TunnelRow | PeerRow | AppliedRow) -> tuple[datetime, int]:
    return row.place.at, row.place.sequence
