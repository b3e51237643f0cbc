"""The bytes of each end of a tunnel in each minute of the last hour, in memory. Pure.

A minute in which a peer sent no report is unknown, which is not zero. Counters that begin again count from zero. Memory is bounded: beyond
MAX_ENDS no further end is recorded (Prometheus has them all).
"""

from array import array
from collections.abc import Iterable
from datetime import UTC, datetime

from warren_contracts.tunnel_history import EndCounters, TunnelCounters
from warren_metrics.domain.changes import TunnelKey

MINUTES = 60
STEP_SECONDS = 60
MAX_ENDS = 50_000  # some 700 bytes each


def minute_of(at: datetime) -> int:
    """Minutes since 1970."""
    return int(at.timestamp()) // STEP_SECONDS


class _EndCounters:
    """One end: its last counters, and what was added to them in each minute. Float32: a chart needs no more than its 7 digits."""

    __slots__ = ("added", "minute", "total")

    def __init__(self, minute: int, total: tuple[int, int]) -> None:
        self.minute = minute
        self.total = total
        self.added = (array("f", bytes(4 * MINUTES)), array("f", bytes(4 * MINUTES)))

    def record(self, minute: int, total: tuple[int, int]) -> None:
        if minute > self.minute:
            for passed in range(max(self.minute + 1, minute - MINUTES + 1), minute + 1):
                for ring in self.added:
                    ring[passed % MINUTES] = 0.0
            self.minute = minute
        at, (bytes_in, bytes_out), (before_in, before_out) = self.minute % MINUTES, total, self.total
        self.added[0][at] += bytes_in - before_in if bytes_in >= before_in else bytes_in
        self.added[1][at] += bytes_out - before_out if bytes_out >= before_out else bytes_out
        self.total = total


class RecentCounters:
    """The last hour of all ends."""

    def __init__(self) -> None:
        self._ends: dict[TunnelKey, _EndCounters] = {}
        self._reported: dict[
            str, array[int]
        ] = {}  # by peer: the minutes since 1970 in which it reported, by minute modulo 60
        self._swept = 0

    def reported(self, peer: str, minute: int) -> None:
        """A report of a peer arrived: what has not changed since the last one is known."""
        ring = self._reported.get(peer)
        if ring is None:
            ring = self._reported[peer] = array("q", bytes(8 * MINUTES))
        ring[minute % MINUTES] = max(ring[minute % MINUTES], minute)  # a late report may be of more than an hour ago

    def record(self, key: TunnelKey, minute: int, bytes_in: int, bytes_out: int) -> None:
        """The counters of one end, as they are in a report that was stored in a minute since 1970."""
        end = self._ends.get(key)
        if end is not None:
            end.record(minute, (bytes_in, bytes_out))
        elif len(self._ends) < MAX_ENDS or self._sweep(minute):
            self._ends[key] = _EndCounters(minute, (bytes_in, bytes_out))

    def of(self, tunnel: str, peers: Iterable[str], now: datetime) -> TunnelCounters:
        """The last hour of a tunnel; ends that are not recorded are left out."""
        last = minute_of(now)
        minutes = range(last - MINUTES + 1, last + 1)
        found = {peer: end for peer in sorted(peers) if (end := self._ends.get((peer, tunnel))) is not None}
        return TunnelCounters(
            name=tunnel, start=datetime.fromtimestamp(minutes.start * STEP_SECONDS, UTC), step_seconds=STEP_SECONDS,
            ends={peer: self._end(peer, end, minutes) for peer, end in found.items()},
        )  # fmt: skip

    def _end(self, peer: str, end: _EndCounters, minutes: range) -> EndCounters:
        reported = self._reported.get(peer)

        def values(ring: "array[float]") -> tuple[int | None, ...]:
            return tuple(
                None if reported is None or reported[it % MINUTES] != it
                else round(ring[it % MINUTES]) if end.minute - MINUTES < it <= end.minute
                else 0
                for it in minutes
            )  # fmt: skip

        return EndCounters(bytes_in=values(end.added[0]), bytes_out=values(end.added[1]))

    def _sweep(self, minute: int) -> bool:
        """Forget ends without a change for an hour, at most once a minute; whether there is space now."""
        if minute != self._swept:
            self._swept = minute
            for key in [key for key, end in self._ends.items() if end.minute <= minute - MINUTES]:
                del self._ends[key]
            for peer in [peer for peer, ring in self._reported.items() if max(ring) <= minute - MINUTES]:
                del self._reported[peer]
        return len(self._ends) < MAX_ENDS
