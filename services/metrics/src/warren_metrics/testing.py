"""Fakes of the ports, and makers of telemetry, for unit tests here and elsewhere."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from warren_contracts import subjects
from warren_contracts.base import Document
from warren_contracts.status import TunnelState, TunnelStatus
from warren_metrics.domain.fleet import TunnelKey
from warren_metrics.domain.parse import MessageSource, Observation, parse
from warren_metrics.domain.peers import PeerView, TunnelView
from warren_metrics.ports import Known, OutgoingEvent, Rows
from warren_store import PostgresUnavailableError

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class MemoryFleet:
    """`FleetStore` in memory; `unavailable` makes it behave as without PostgreSQL."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerView] = {}
        self.tunnels: dict[TunnelKey, TunnelView] = {}
        self.unavailable = False

    async def load(self) -> Known:
        self._check()
        return Known(dict(self.peers), dict(self.tunnels))

    async def save(self, rows: Rows) -> None:
        self._check()
        for peer, view in rows.peers.items():
            if view is None:
                self.peers.pop(peer, None)
            else:
                self.peers[peer] = view
        for key, tunnel in rows.tunnels.items():
            if tunnel is None:
                self.tunnels.pop(key, None)
            else:
                self.tunnels[key] = tunnel

    def _check(self) -> None:
        if self.unavailable:
            raise PostgresUnavailableError


class MemoryEvents:
    """`Events` that writes down what was told; `failing` makes the next call fail as a crash in the middle would."""

    def __init__(self) -> None:
        self.told: list[OutgoingEvent] = []
        self.failing = False

    async def tell(self, tellings: Sequence[OutgoingEvent]) -> None:
        if self.failing:
            self.failing = False
            raise ConnectionError("the process was ended")
        known = {telling.event_id for telling in self.told}  # as the stream does by Nats-Msg-Id
        self.told += [telling for telling in tellings if telling.event_id not in known]


def place(sequence: int, seconds: float | None = None) -> MessageSource:
    """A place in the stream; by default one second a message."""
    return MessageSource(sequence, START + timedelta(seconds=sequence if seconds is None else seconds))


def status(name: str, state: str = "up", **fields: Any) -> TunnelStatus:
    """One end's view of a tunnel."""
    return TunnelStatus(name=name, state=TunnelState(state), **fields)


def observed(peer: str, kind: str, body: Document, at: MessageSource) -> Observation:
    """A message as it comes out of the parser: all of it is exercised."""
    return parse(subjects.telemetry(peer, kind), body.model_dump_json().encode(), at)
