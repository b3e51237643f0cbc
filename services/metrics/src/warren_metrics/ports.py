"""Ports of the metrics service: a store of the last known state, and the stream of events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from warren_metrics.domain.changes import Event, TunnelKey
from warren_metrics.domain.peers import PeerView, TunnelView


@dataclass(frozen=True, slots=True)
class KnownState:
    """The last known state."""

    peers: Mapping[str, PeerView]
    tunnels: Mapping[TunnelKey, TunnelView]


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Rows to write; None removes one."""

    peers: Mapping[str, PeerView | None]
    tunnels: Mapping[TunnelKey, TunnelView | None]

    def __bool__(self) -> bool:
        return bool(self.peers or self.tunnels)


class FleetStore(Protocol):
    """The last known state on disk. Every method raises PostgresUnavailableError (an `Unavailable`) while PostgreSQL is unavailable."""

    async def load(self) -> KnownState:
        """Read all rows."""

    async def save(self, rows: RowChanges) -> None:
        """Write the rows in one transaction."""


@dataclass(frozen=True, slots=True)
class OutgoingEvent:
    """An event to be published, with its id (the same in every attempt) and the trace that caused it."""

    event: Event
    event_id: str
    traceparent: str


class EventStream(Protocol):
    """The stream EVENT."""

    async def publish(self, events: Sequence[OutgoingEvent]) -> None:
        """Store all events, each peer's in order; returns when they are stored, however long the bus is unavailable."""
