"""Follow EVENT and store its rows in batches, each with the position up to which they are stored.

A restart continues after the stored position, so what is on the stream is neither lost nor stored twice. While PostgreSQL or the
bus is unavailable nothing moves: the events wait on the stream, 30 days of them.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from warren_contracts.bus_queries import MAX_EVENTS, EventPage, ReadEvents
from warren_metrics.history.ports import HistoryStore
from warren_metrics.history.rows import rows_of

INTERVAL = 1.0  # s between two looks at the stream: the largest delay of an entry
PRUNE_INTERVAL = timedelta(hours=1)
# Until then a report that arrives late may stand between a revision and its repeat. (One that the service did not acknowledge comes
# again after half a minute, five times.)
SETTLED_AFTER = timedelta(minutes=10)

log = structlog.get_logger(__name__)


class Events(Protocol):
    """Stored events by sequence."""

    async def page(self, query: ReadEvents) -> EventPage: ...


class HistoryWriter:
    """Writes the history. `step` is for a `Worker`."""

    def __init__(
        self, store: HistoryStore, events: Events, retention: timedelta, *, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._events = events
        self._retention = retention
        self._now = now
        self._position: int | None = None
        self._pruned_at: datetime | None = None
        self._dropped_until: datetime | None = None  # repeated revisions before that are removed

    async def step(self) -> None:
        """Store all events that are not stored yet; remove days that are too old, and repeated revisions. Raises UnavailableError."""
        await self._prune()
        position = self._position if self._position is not None else await self._store.position()
        self._position = None  # read again if anything below fails: the commit may have happened
        while True:
            page = await self._events.page(ReadEvents(after=position, limit=MAX_EVENTS))
            if page.missed:
                log.warning("history.events_missed", after=position)
            if page.next_after != position:
                rows = rows_of(page.events)
                if rows.invalid:
                    log.warning("history.events_invalid", count=rows.invalid)
                await self._store.append(rows, page.next_after, self.keep_from)
                position = page.next_after
            if not page.more:
                self._position = position
                return

    @property
    def keep_from(self) -> datetime:
        """What is older is removed."""
        return self._now() - self._retention

    async def _prune(self) -> None:
        now = self._now()
        if self._pruned_at is not None and now - self._pruned_at < PRUNE_INTERVAL:
            return
        removed = await self._store.prune(self.keep_from)
        until = now - SETTLED_AFTER
        await self._store.drop_repeats(self._dropped_until or self.keep_from, until)
        self._dropped_until = until
        self._pruned_at = now
        if removed:
            log.info("history.pruned", partitions=removed)
