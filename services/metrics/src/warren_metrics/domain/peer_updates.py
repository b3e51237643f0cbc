"""What a message changes in the view of its peer, whatever it is about. Pure."""

from typing import Any

from warren_contracts.base import amended
from warren_contracts.telemetry import Presence
from warren_metrics.domain.lateness import ReportTime, outdated_until
from warren_metrics.domain.parse import Body, MessageSource
from warren_metrics.domain.peers import PeerView


def last_source(known: PeerView | None, body: Body) -> MessageSource | None:
    """The position of the peer's last message in the same stream."""
    if known is None:
        return None
    if isinstance(body, Presence):
        return None if known.presence_at is None else MessageSource(known.presence_sequence, known.presence_at)
    return MessageSource(known.sequence, known.stored_at or known.last_seen_at)


def updated(known: PeerView | None, place: MessageSource, body: Body, time: ReportTime | None = None) -> PeerView:
    """The view after a message; `time`: of what it reports of tunnels.

    The other stream may be ahead: a message older than a stop does not undo it.
    """
    view = known or PeerView(last_seen_at=place.at)
    if isinstance(body, Presence):
        fields: dict[str, Any] = {
            "presence_sequence": place.sequence, "presence_at": place.at, "stopped": body.state == "stopping",
            "started_at": body.started_at, "version": body.version,
            "resident_bytes": body.resident_bytes, "cpu_seconds": body.cpu_seconds, "drivers": body.drivers,
            "queued": body.queued, "queued_bytes": body.queued_bytes, "dropped": body.dropped,
            "clock_skew_s": (body.at - place.at).total_seconds(),
            "intent_unconfirmed_s": None if body.host is None else body.host.intent_unconfirmed_s,
            "behind_nat": None if body.host is None else body.host.behind_nat,
        }  # fmt: skip
        other = view.stored_at
    else:
        other = view.presence_at
        fields = {"sequence": place.sequence, "stored_at": place.at}
        if other is None or place.at > other:
            fields["stopped"] = False
    if time is not None:
        fields["reported_until"] = time.at
    fields["outdated_until"] = outdated_until(known, place, time)
    return amended(view, **fields, last_seen_at=place.at if other is None else max(place.at, other))
