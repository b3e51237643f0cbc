"""The outbox: events that a change leaves in its own transaction, and that are published after the commit.

A crash between the commit and the publication loses no event: its row remains, and a repeat keeps the event's id, which the
stream stores once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from nats.aio.client import Client

from warren_bus.publisher import publish
from warren_contracts.cloudevents import EventAttributes, build_headers


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event that is published after the commit of its change. `event_id` is its CloudEvents id in every attempt."""

    event_id: str
    subject: str
    type: str
    payload: str
    traceparent: str
    created_at: datetime
    id: int = 0  # of the row


class OutboxPublisher:
    """Publishes the events of one source (`/services/policy`), `parallel` at a time."""

    def __init__(self, client: Callable[[], Client], source: str, parallel: int = 1) -> None:
        self._client = client
        self._source = source
        self._parallel = parallel

    async def publish(self, events: Sequence[OutboxEvent]) -> AsyncIterator[Sequence[OutboxEvent]]:
        """Publish in order; yields the events that are stored, as they are. Raises NotStoredError at the first failure."""
        for start in range(0, len(events), self._parallel):
            chunk = events[start : start + self._parallel]
            results = await asyncio.gather(*map(self._publish, chunk), return_exceptions=True)
            yield [event for event, result in zip(chunk, results, strict=True) if result is None]
            for failure in filter(None, results):
                raise failure

    async def _publish(self, event: OutboxEvent) -> None:
        attributes = EventAttributes(event.type, self._source, event.event_id, event.created_at)
        headers = build_headers(attributes, event.traceparent)
        # No retry here: the caller repeats the whole outbox, with pauses.
        await publish(self._client, event.subject, event.payload.encode(), headers, retries=0)
