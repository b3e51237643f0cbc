"""Which telemetry is too old to show how a peer is now, by the clock of the bus. Pure.

An agent that could not reach the bus sends what it has stored on disk, the oldest first, when it can again; and after an interruption
this service itself reads what waits in the stream. What is older than OFFLINE_AFTER is history: it shows how the peer was. The same
holds for what was known of a peer before a silence of that length.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from warren_contracts.telemetry import OFFLINE_AFTER, Report, TunnelChange
from warren_metrics.domain.parse import Body, MessageSource
from warren_metrics.domain.peers import PeerView

STALE_AFTER = timedelta(seconds=OFFLINE_AFTER)


class ReportTime(NamedTuple):
    """When it was as a message reports, by the clock of the bus; `is_late`: too long ago to show how it is now."""

    at: datetime
    is_late: bool

    def placed(self, place: MessageSource) -> MessageSource:
        """The position of the message with this time."""
        return MessageSource(place.sequence, self.at)


def report_time(known: PeerView | None, place: MessageSource, body: Body) -> ReportTime | None:
    """The time of what a message reports of tunnels; None: of none.

    It is when the bus stored the message, unless that was STALE_AFTER later. Of a clock of which nothing is known, too: but what it
    stamps is late. A message that waited in the stream is late with its time unchanged, so that a repeat has the same one.
    """
    if not isinstance(body, Report | TunnelChange):
        return None
    delay = _delay(None if known is None else known.clock_skew_s, place, body.at)
    if delay is None:
        return ReportTime(place.at, is_late=True)
    waited = _newest(known, place) - place.at
    return ReportTime(place.at if delay < STALE_AFTER else place.at - delay, is_late=delay + waited >= STALE_AFTER)


def in_order(time: ReportTime, known: PeerView | None, place: MessageSource) -> ReportTime:
    """The time of a report that follows all others of its peer: a sender cannot place it before those."""
    if known is None or known.reported_until is None:
        return time
    return time._replace(at=min(max(time.at, known.reported_until), place.at))


def outdated_until(known: PeerView | None, place: MessageSource, time: ReportTime | None) -> datetime | None:
    """Before when a peer's reports are outdated, after a message; None: none is. `time`: of what a report says of tunnels."""
    until = None
    if known is not None:
        until = place.at if place.at - known.last_seen_at >= STALE_AFTER else known.outdated_until
    if time is not None and time.is_late and (until is None or time.at >= until):
        return _newest(known, place) + timedelta.resolution
    return until


def _newest(known: PeerView | None, place: MessageSource) -> datetime:
    return place.at if known is None else max(place.at, known.last_seen_at)


def _delay(skew_s: float | None, place: MessageSource, sent_at: datetime) -> timedelta | None:
    """How long a message took until the bus stored it; None: not known, and not certainly less than STALE_AFTER.

    The skew is by the last heartbeat. Should a message be stored before it was sent by that, the clock was set since.
    """
    delay = place.at - sent_at
    if skew_s is not None:
        corrected = delay + timedelta(seconds=skew_s)
        if corrected > -STALE_AFTER:
            return max(corrected, timedelta())
    return max(delay, timedelta()) if abs(delay) < STALE_AFTER else None
