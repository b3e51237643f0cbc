"""Events and kicks that wait for their execution, in PostgreSQL."""

from collections.abc import Iterable
from datetime import datetime

from warren_registry.ports import KickRow
from warren_service.outbox import OutboxEvent
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry", "after_commit.sql")


class PostgresAfterCommit:
    """`ports.AfterCommit`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def add_event(self, event: OutboxEvent) -> None:
        await self._connection.execute(
            SQL["add_event"],
            event.event_id,
            event.subject,
            event.type,
            event.payload,
            event.traceparent,
            event.created_at,
        )

    async def pending_events(self, limit: int) -> tuple[OutboxEvent, ...]:
        return tuple(OutboxEvent(**row) for row in await self._connection.fetch(SQL["pending_events"], limit))

    async def events_done(self, ids: Iterable[int]) -> None:
        await self._connection.execute(SQL["events_done"], list(ids))

    async def add_kick(self, user: str, now: datetime) -> None:
        await self._connection.execute(SQL["add_kick"], user, now)

    async def pending_kicks(self, limit: int) -> tuple[KickRow, ...]:
        return tuple(KickRow(*row) for row in await self._connection.fetch(SQL["pending_kicks"], limit))

    async def kicks_done(self, ids: Iterable[int]) -> None:
        await self._connection.execute(SQL["kicks_done"], list(ids))
