"""Telling events: to EVENT, acknowledged, for as long as it takes."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

import structlog
from nats.aio.client import Client

from warren_bus import tracing
from warren_bus.errors import NotStoredError
from warren_bus.publisher import EventPublisher
from warren_contracts import subjects
from warren_contracts.events import TunnelChanged
from warren_metrics.domain.fleet import Event
from warren_metrics.ports import OutgoingEvent

SOURCE = "/services/metrics"
PARALLEL = 64  # peers whose events are told at a time; those of one peer go one after another
PAUSE = 1.0  # s after the publisher has given up, before it is asked again

log = structlog.get_logger(__name__)


class StreamEvents:
    """`Events` on JetStream."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._publisher = EventPublisher(client, SOURCE)

    async def tell(self, tellings: Sequence[OutgoingEvent]) -> None:
        of_peer: defaultdict[str, list[OutgoingEvent]] = defaultdict(list)
        for telling in tellings:
            of_peer[telling.event.peer].append(telling)
        limit = asyncio.Semaphore(PARALLEL)
        async with asyncio.TaskGroup() as group:
            for mine in of_peer.values():
                group.create_task(self._tell_in_order(mine, limit))

    async def _tell_in_order(self, tellings: Sequence[OutgoingEvent], limit: asyncio.Semaphore) -> None:
        async with limit:
            for telling in tellings:
                with tracing.continued({tracing.HEADER: telling.traceparent}):
                    await self._tell_one(telling)

    async def _tell_one(self, telling: OutgoingEvent) -> None:
        event = telling.event
        while True:
            try:
                await self._publisher.publish(subject_of(event), event.TYPE, event, event_id=telling.event_id)
                return
            except NotStoredError as error:
                log.warning("metrics.event_not_stored", reason=str(error))
            await asyncio.sleep(PAUSE)


def subject_of(event: Event) -> str:
    """`warren.v1.event.metrics.tunnel.<peer>` or `...applied.<peer>`."""
    return subjects.event("metrics", "tunnel" if isinstance(event, TunnelChanged) else "applied", event.peer)
