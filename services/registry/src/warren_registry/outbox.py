"""The outbox of events: written in the transaction of a change, published after its commit."""

from collections.abc import Callable
from datetime import datetime
from uuid import uuid4

from nats.aio.client import Client

from warren_bus.tracing import outgoing
from warren_contracts import subjects
from warren_contracts.events import Event
from warren_registry.ports import Database, Tables
from warren_service.outbox import OutboxEvent, OutboxPublisher

SOURCE = "/services/registry"
PAGE = 200  # events read at a time


async def add_event(tables: Tables, kind: str, name: str, event: Event, now: datetime) -> None:
    """Publish `event` on `warren.v1.event.registry.<kind>.<name>` after the commit. Its id is random (never peer and
    counter: JetStream drops a repeated id across the whole stream)."""
    await tables.after_commit.add_event(
        OutboxEvent(
            event_id=str(uuid4()), subject=subjects.event("registry", kind, name), type=event.TYPE,
            payload=event.model_dump_json(), traceparent=outgoing(), created_at=now,
        )
    )  # fmt: skip


class OutboxRelay:
    """Publishes the outbox in order."""

    def __init__(self, database: Database, client: Callable[[], Client]) -> None:
        self._database = database
        self._publisher = OutboxPublisher(client, SOURCE)

    async def step(self) -> None:
        """Publish all pending events. Raises NotStoredError or UnavailableError; the events published until then are removed."""
        while True:
            async with self._database.transaction() as tables:
                events = await tables.after_commit.pending_events(PAGE)
            done: list[int] = []
            try:
                async for stored in self._publisher.publish(events):
                    done += [event.id for event in stored]
            finally:
                if done:
                    async with self._database.transaction() as tables:
                        await tables.after_commit.events_done(done)
            if len(events) < PAGE:
                return
