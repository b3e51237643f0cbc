"""Process a batch of telemetry: parse, update the fleet, publish the events, mark the rows to be written.

The caller acknowledges the batch when this returns: then its events are stored. Rows are marked only after that, so a row on disk
implies that its events were published; a crash in between publishes them again with the same ids, which the stream recognises.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from warren_contracts.telemetry import AttemptFailure, Report
from warren_metrics.agent_spans import AgentSpans
from warren_metrics.counters import IngestCounters, exemplar
from warren_metrics.domain.changes import Changes
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.parse import MessageSource, Observation, parse
from warren_metrics.domain.propagation import Propagation, RevisionArrival
from warren_metrics.domain.recent_counters import RecentCounters, minute_of
from warren_metrics.errors import TelemetryRejectedError
from warren_metrics.memory import StateWriter
from warren_metrics.ports import EventStream, OutgoingEvent

# Ids of events are made of the position of their cause, so that a repeat has the same ones.
_NAMESPACE = uuid.UUID("9f3f4c0e-5b0a-4a53-9a8e-0f2b3c6d7e81")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Raw:
    """A telemetry message as received."""

    subject: str
    payload: bytes
    place: MessageSource
    traceparent: str = ""


class Ingest:
    """Processes batches."""

    def __init__(
        self,
        fleet: FleetTelemetry,
        memory: StateWriter,
        events: EventStream,
        counters: IngestCounters,
        spans: AgentSpans | None = None,
        recent: RecentCounters | None = None,
    ) -> None:
        self._fleet = fleet
        self._memory = memory
        self._events = events
        self._counters = counters
        self._spans = spans
        self._recent = recent or RecentCounters()
        self._propagation = Propagation()
        self._lock = asyncio.Lock()

    async def batch(self, messages: Sequence[Raw]) -> None:
        """Process a batch; returns when its events are stored.

        Batches of heartbeats and of other telemetry arrive independently and are processed one after another: otherwise a heartbeat
        would mark a row of a peer whose events are not published yet.
        """
        async with self._lock:
            await self._consume(messages)

    async def _consume(self, messages: Sequence[Raw]) -> None:
        done: list[Changes] = []
        outgoing: list[OutgoingEvent] = []
        accepted: Counter[str] = Counter()  # by kind
        for raw in messages:
            try:
                observation = parse(raw.subject, raw.payload, raw.place)
            except TelemetryRejectedError as error:
                self._reject(raw, error.reason)
                continue
            changes = self._fleet.observe(observation)
            accepted[raw.subject.rsplit(".", 1)[1]] += 1
            self._count(raw, observation, changes)
            self._record_recent(observation, changes)
            if self._spans is not None:
                self._spans.record(observation.peer, observation.body, raw.traceparent)
            done.append(changes)
            if changes.events:
                outgoing += [
                    OutgoingEvent(event, _id(raw.place, n), raw.traceparent) for n, event in enumerate(changes.events)
                ]
        for kind, count in accepted.items():
            self._counters.messages.labels(kind).inc(count)
        if messages:
            self._counters.delay.set((datetime.now(UTC) - messages[-1].place.at).total_seconds())
        if outgoing:
            await self._events.publish(outgoing)
        for changes in done:
            self._memory.changed(changes)

    def _record_recent(self, observation: Observation, changes: Changes) -> None:
        minute = minute_of(changes.at or observation.place.at)
        record, tunnel = self._recent.record, self._fleet.tunnel
        if isinstance(observation.body, Report):
            self._recent.reported(observation.peer, minute)
        for keys in (changes.counters, changes.tunnels):
            for key in keys:
                if (view := tunnel(key)) is not None:
                    record(key, minute, view.bytes_in, view.bytes_out)

    @property
    def edits(self) -> Mapping[int, datetime]:
        """When each of the newest policy revisions was stored."""
        return self._propagation.edited

    def edited(self, revision: int, at: datetime) -> None:
        """A policy revision was stored."""
        for arrival, seconds in self._propagation.edit(revision, at):
            self._count_propagation(arrival, seconds)

    def revoked(self, peer: str) -> None:
        """Remove a revoked peer and its tunnels. If the event was missed, the peer is dropped after FORGET_AFTER."""
        self._memory.changed(self._fleet.remove(peer))

    def dead_letter(self, sequence: int) -> None:
        """Count a message that was dropped after its last delivery."""
        self._counters.dead_letters.inc()
        log.error("telemetry.dead_letter", stream_sequence=sequence)

    def _reject(self, raw: Raw, reason: str) -> None:
        self._counters.rejected.labels(reason).inc()
        log.debug("telemetry.rejected", subject=raw.subject[:128], error=reason)

    def _count(self, raw: Raw, observation: Observation, changes: Changes) -> None:
        counters = self._counters
        for reason in changes.rejected:
            self._reject(raw, reason)
        counters.add(changes)
        peer = counters.peers.of(observation.peer)
        for milliseconds in changes.applied_ms:
            counters.apply_seconds.labels(peer).observe(milliseconds / 1_000, exemplar(raw.traceparent))
        for seconds in changes.handshakes:
            counters.handshake_seconds.labels(peer).observe(seconds, exemplar(raw.traceparent))
        for seconds in changes.rekeyings:
            counters.rekey_seconds.labels(peer).observe(seconds, exemplar(raw.traceparent))
        for _, revision in changes.converged:
            arrival = RevisionArrival(observation.peer, revision, raw.place.at, raw.traceparent)
            if (taken := self._propagation.arrive(arrival)) is not None:
                self._count_propagation(arrival, taken)
        for code in changes.broken:
            counters.failures.labels(code.value).inc()
        if isinstance(observation.body, AttemptFailure):
            counters.failures.labels(observation.body.code.value).inc()

    def _count_propagation(self, arrival: RevisionArrival, seconds: float) -> None:
        label = self._counters.peers.of(arrival.peer)
        self._counters.propagation_seconds.labels(label).observe(seconds, exemplar(arrival.traceparent))


def _id(place: MessageSource, number: int) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{place.sequence}/{place.at.isoformat()}/{number}"))
