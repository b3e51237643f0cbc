"""The progress of one revision, from stored events: when each agent received it, how long applying took, which tunnels changed. Pure.

Times of agents are by their own clocks, those of the services by theirs; what seems to happen before the revision was stored shows a
clock that is off, and begins at 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from warren_contracts.base import Document
from warren_contracts.events import PolicyApplied, PolicyChanged, TunnelChanged

BAR = 32  # columns
MIN_SPAN_MS = 1.0


class WaterfallStep(Document):
    """One line: what happened where, from the moment at which the revision was stored (ms)."""

    where: str
    what: str
    start_ms: float
    took_ms: float | None = None  # None: a moment
    ok: bool = True


class Waterfall(Document):
    """A revision and its effects. `trace_id` joins it with logs, and with spans where they are exported."""

    revision: int
    at: datetime
    trace_id: str
    steps: tuple[WaterfallStep, ...]


class _Arrived(NamedTuple):
    trace_id: str
    at: datetime
    event: BaseModel


_MODELS: Mapping[str, type[BaseModel]] = {it.TYPE: it for it in (PolicyChanged, PolicyApplied, TunnelChanged)}


def newest_revision(events: Iterable[Mapping[str, Any]]) -> int | None:
    """The highest revision that a policy change has made; None if there is none."""
    return max((it.event.revision for it in _read(events) if isinstance(it.event, PolicyChanged)), default=None)


def waterfall(events: Iterable[Mapping[str, Any]], revision: int) -> Waterfall | None:
    """The steps of a revision in order of time; None if no event is about it. `events` are in order of their sequence."""
    read = _read(events)
    changes = [it for it in read if isinstance(it.event, PolicyChanged) and it.event.revision == revision]
    if not changes:
        return None
    begin, trace_id = min(it.event.at for it in changes if isinstance(it.event, PolicyChanged)), changes[0].trace_id
    steps = [step for it in read if (step := _step(it, revision, trace_id, begin)) is not None]
    return Waterfall(
        revision=revision,
        at=begin,
        trace_id=trace_id,
        steps=tuple(sorted(steps, key=lambda it: (it.start_ms, it.where))),
    )


def _step(it: _Arrived, revision: int, trace_id: str, begin: datetime) -> WaterfallStep | None:
    match it.event:
        case PolicyChanged() as change if change.revision == revision:
            return WaterfallStep(
                where="policy", what=f"{change.policy} {change.action} by {change.actor}", start_ms=0.0
            )
        case PolicyApplied() as applied if applied.revision == revision and (it.trace_id == trace_id or not trace_id):
            received, done = applied.delivered_at or applied.at, applied.applied_at or applied.at
            return WaterfallStep(
                where=applied.peer, what="applied" if applied.ok else f"not applied: {applied.error}",
                start_ms=_since(begin, received), took_ms=max(0.0, _ms(done - received)), ok=applied.ok,
            )  # fmt: skip
        case TunnelChanged(first_packet_at=datetime() as passed) as seen if trace_id and it.trace_id == trace_id:
            return WaterfallStep(where=seen.peer, what=f"{seen.tunnel}: first packet", start_ms=_since(begin, passed))
        case TunnelChanged() as changed if trace_id and it.trace_id == trace_id:
            state = "removed" if changed.removed else changed.state.value
            before = f"{changed.previous.value} to " if changed.previous is not None else ""
            is_rekeyed = changed.previous is changed.state and not changed.removed
            what = f"{changed.tunnel}: " + (f"{state}, new SAs" if is_rekeyed else f"{before}{state}")
            return WaterfallStep(where=changed.peer, what=what, start_ms=_since(begin, changed.at))
    return None


def _since(begin: datetime, at: datetime) -> float:
    return max(0.0, _ms(at - begin))


def _ms(length: timedelta) -> float:
    return round(length / timedelta(milliseconds=1), 1)


def bars(steps: Sequence[WaterfallStep]) -> list[str]:
    """A bar for each step, all on one scale: `·····███·····`."""
    end = max((step.start_ms + (step.took_ms or 0.0) for step in steps), default=0.0)
    scale = (BAR - 1) / max(end, MIN_SPAN_MS)
    drawn = []
    for step in steps:
        first = round(step.start_ms * scale)
        last = max(first, round((step.start_ms + (step.took_ms or 0.0)) * scale))
        drawn.append("." * first + "#" * (last - first + 1) + "." * (BAR - 1 - last))
    return drawn


def _read(events: Iterable[Mapping[str, Any]]) -> list[_Arrived]:
    """The events of the kinds that matter; one that cannot be read is left out, as others' versions may add kinds."""
    found = []
    for body in events:
        model = _MODELS.get(str(body.get("type")))
        parts = str(body.get("traceparent", "")).split("-")
        try:
            if model is not None:
                event: Any = model.model_validate(body.get("data"))
                found.append(_Arrived(parts[1] if len(parts) > 1 else "", event.at, event))
        except ValidationError:
            continue
    return found
