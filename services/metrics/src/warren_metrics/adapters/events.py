"""Publish events to EVENT, acknowledged, and retry until they are stored."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog
from nats.aio.client import Client

from warren_bus import tracing
from warren_bus.errors import NotStoredError
from warren_bus.publisher import EventPublisher
from warren_contracts import subjects
from warren_contracts.events import PolicyApplied, ReportingChanged, TunnelChanged
from warren_metrics.domain.changes import Event
from warren_metrics.ports import OutgoingEvent

SOURCE = "/services/metrics"
PARALLEL = 64  # peers whose events are published at a time; those of one peer are published in order
PAUSE = 1.0  # s after the retries of the publisher have failed

_KINDS: dict[type[Event], str] = {TunnelChanged: "tunnel", PolicyApplied: "applied", ReportingChanged: "reporting"}

log = structlog.get_logger(__name__)


class StreamEvents:
    """`Events` on JetStream."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._publisher = EventPublisher(client, SOURCE)

    async def publish(self, events: Sequence[OutgoingEvent]) -> None:
        of_peer: defaultdict[str, list[OutgoingEvent]] = defaultdict(list)
        for outgoing in events:
            of_peer[outgoing.event.peer].append(outgoing)
        limit = asyncio.Semaphore(PARALLEL)
        async with asyncio.TaskGroup() as group:
            for of_one in of_peer.values():
                group.create_task(self._publish_in_order(of_one, limit))

    async def _publish_in_order(self, events: Sequence[OutgoingEvent], limit: asyncio.Semaphore) -> None:
        async with limit:
            for outgoing in events:
                with tracing.continued({tracing.HEADER: outgoing.traceparent}):
                    await self._publish_one(outgoing)

    async def _publish_one(self, outgoing: OutgoingEvent) -> None:
        event = outgoing.event
        while True:
            try:
                await self._publisher.publish(subject_of(event), event.TYPE, event, event_id=outgoing.event_id)
                return
            except NotStoredError as error:
                log.warning("metrics.event_not_stored", error=str(error))
            await asyncio.sleep(PAUSE)


def subject_of(event: Event) -> str:
    """`warren.v1.event.metrics.tunnel.<peer>`, `...applied.<peer>` or `...reporting.<peer>`."""
    return subjects.event("metrics", _KINDS[type(event)], event.peer)
