"""Events that a change leaves behind, in the transaction of the change."""

from datetime import datetime
from uuid import uuid4

from warren_bus.tracing import outgoing
from warren_contracts import subjects
from warren_contracts.events import Event
from warren_registry.ports import Tables
from warren_service.outbox import OutboxEvent

SOURCE = "/services/registry"


async def leave_event(tables: Tables, kind: str, name: str, event: Event, now: datetime) -> None:
    """Publish `event` on `warren.v1.event.registry.<kind>.<name>` after the commit. Its id is random (never peer and
    counter: JetStream drops a repeated id across the whole stream)."""
    await tables.after.add_event(
        OutboxEvent(
            event_id=str(uuid4()), subject=subjects.event("registry", kind, name), type=event.TYPE,
            payload=event.model_dump_json(), traceparent=outgoing(), created_at=now,
        )
    )  # fmt: skip
