"""The history of tunnels on PostgreSQL, with a stream of events in memory."""

from datetime import datetime, timedelta
from typing import Any

from warren_contracts.base import Document
from warren_contracts.bus_queries import EventPage, EventRecord, ReadEvents
from warren_contracts.cloudevents import structured
from warren_contracts.events import PolicyApplied, PresenceChanged, TunnelChanged
from warren_contracts.peers import PresenceState
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.tunnel_history import AppliedEntry, StateEntry, TunnelHistoryQuery
from warren_metrics.history.postgres import PostgresHistory
from warren_metrics.history.queries import HistoryQueries
from warren_metrics.history.writer import HistoryWriter
from warren_testkit.metrics import START, status

RETENTION = timedelta(days=30)


def record(sequence: int, event: Document, event_id: str = "") -> EventRecord:
    """An event as the stream gives it back."""
    kind: Any = type(event)
    headers = {
        "ce-specversion": "1.0",
        "ce-type": kind.TYPE,
        "ce-source": "/test",
        "ce-id": event_id or f"id-{sequence}",
    }
    data = event.model_dump_json().encode()
    return EventRecord(sequence=sequence, event=structured("warren.v1.event.test", sequence, headers, data))


def changed(peer: str, state: TunnelState, at: datetime, tunnel: str = "gw1+hub", **fields: Any) -> TunnelChanged:
    other = next((it for it in tunnel.split("+") if it != peer), None)
    reported = status(tunnel, state.value, peer=other, reason=fields.pop("reason", ReasonCode.NONE))
    removed = fields.pop("removed", False)
    return TunnelChanged(
        peer=peer, tunnel=tunnel, state=state, previous=fields.pop("previous", None), removed=removed, status=reported, at=at,
        previous_reason=fields.pop("previous_reason", None),
    )  # fmt: skip


def presence(peer: str, state: str, at: datetime) -> PresenceChanged:
    return PresenceChanged(peer=peer, state=PresenceState(state), reason="", at=at)


def applied(peer: str, revision: int, ok: bool, at: datetime) -> PolicyApplied:
    return PolicyApplied(
        peer=peer, epoch=1, revision=revision, ok=ok, duration_ms=5.0, error="" if ok else "refused", at=at
    )


class Stream:
    """EVENT in memory, in pages of three."""

    def __init__(self) -> None:
        self.records: list[EventRecord] = []
        self.now = START

    def add(self, event: Document, event_id: str = "") -> None:
        self.records.append(record(len(self.records) + 1, event, event_id))

    async def page(self, query: ReadEvents) -> EventPage:
        after = query.after or 0
        if after > len(self.records):
            return EventPage(events=(), next_after=0, more=True, missed=True)
        found = tuple(self.records[after : after + 3])
        more = after + len(found) < len(self.records)
        return EventPage(events=found, next_after=after + len(found), more=more)


class World:
    """A writer and the questions, on PostgreSQL."""

    def __init__(self, store: PostgresHistory) -> None:
        self.store, self.stream, self.now = store, Stream(), START
        self.known: set[str] = set()
        self.queries = HistoryQueries(store, RETENTION, lambda name: name in self.known, now=lambda: self.now)

    def writer(self) -> HistoryWriter:
        return HistoryWriter(self.store, self.stream, RETENTION, now=lambda: self.now)

    async def write(self, *events: Document) -> None:
        for event in events:
            self.stream.add(event)
        await self.writer().step()

    async def revisions(self, name: str) -> list[tuple[int, bool, datetime]]:
        found = await self.queries.tunnel(TunnelHistoryQuery(name=name))
        return [(it.revision, it.ok, it.at) for it in found.entries if isinstance(it, AppliedEntry)]

    async def entries(self, name: str = "gw1+hub", **query: Any) -> list[tuple[str, str, Any]]:
        found = await self.queries.tunnel(TunnelHistoryQuery(name=name, **query))
        return [(it.kind, it.peer, it.state if isinstance(it, StateEntry) else None) for it in found.entries]
