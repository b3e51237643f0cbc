"""Fakes of the ports of metrics, and makers of telemetry."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from warren_contracts import subjects
from warren_contracts.base import Document
from warren_contracts.status import TunnelState, TunnelStatus
from warren_contracts.telemetry import AgentState, Presence, Report, TunnelChange
from warren_metrics.adapters.prometheus import FleetScraper
from warren_metrics.domain.changes import Changes, TunnelKey
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.parse import MessageSource, Observation, parse
from warren_metrics.domain.peers import PeerView, TunnelView
from warren_metrics.ports import KnownState, OutgoingEvent, RowChanges
from warren_store import PostgresUnavailableError

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class MemoryFleet:
    """`FleetStore` in memory; `unavailable` makes it behave as without PostgreSQL."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerView] = {}
        self.tunnels: dict[TunnelKey, TunnelView] = {}
        self.unavailable = False

    async def load(self) -> KnownState:
        self._check()
        return KnownState(dict(self.peers), dict(self.tunnels))

    async def save(self, rows: RowChanges) -> None:
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
    """`Events` that records what is published; `failing` makes the next call fail as in a crash."""

    def __init__(self) -> None:
        self.published: list[OutgoingEvent] = []
        self.failing = False

    async def publish(self, events: Sequence[OutgoingEvent]) -> None:
        if self.failing:
            self.failing = False
            raise ConnectionError("the process was ended")
        known = {outgoing.event_id for outgoing in self.published}  # as the stream does by Nats-Msg-Id
        self.published += [outgoing for outgoing in events if outgoing.event_id not in known]


def place(sequence: int, seconds: float | None = None) -> MessageSource:
    """A position in the stream; by default one second per message."""
    return MessageSource(sequence, START + timedelta(seconds=sequence if seconds is None else seconds))


def status(name: str, state: str = "up", **fields: Any) -> TunnelStatus:
    """One end's view of a tunnel."""
    return TunnelStatus(name=name, state=TunnelState(state), **fields)


def observed(peer: str, kind: str, body: Document, at: MessageSource) -> Observation:
    """A parsed message."""
    return parse(subjects.telemetry(peer, kind), body.model_dump_json().encode(), at)


class Talk:
    """A fleet that is talked to; each message stands one second after the one before it."""

    def __init__(self) -> None:
        self.fleet = FleetTelemetry()
        self.sequence = 0

    def say(self, peer: str, kind: str, body: Any) -> Changes:
        self.sequence += 1
        return self.fleet.observe(observed(peer, kind, body, place(self.sequence)))

    def report(self, peer: str, *tunnels: Any, **fields: Any) -> Changes:
        return self.say(peer, "report", Report(at=fields.pop("at", self.now), tunnels=tunnels, **fields))

    def change(self, peer: str, tunnel: Any, *, removed: bool = False) -> Changes:
        return self.say(peer, "tunnel", TunnelChange(at=self.now, previous=None, status=tunnel, removed=removed))

    def presence(self, peer: str, state: Any = "online", **fields: Any) -> Changes:
        body = Presence(
            state=state, at=self.now, agent=AgentState.WATCH, started_at=START, resident_bytes=7, **fields
        )  # fmt: skip
        return self.say(peer, "presence", body)

    @property
    def now(self) -> Any:
        return START + timedelta(seconds=self.sequence)


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraper_of(
    registry: CollectorRegistry, fleet: FleetTelemetry | None = None, now: Callable[[], datetime] = lambda: START
) -> FleetScraper:
    """Scrapes of a registry, and of a fleet: without one, of a fleet without a peer."""
    return FleetScraper(FleetTelemetry() if fleet is None else fleet, registry, now)


async def text_of(scraper: FleetScraper, accept: str = "") -> str:
    """One scrape as text."""
    _, parts = await scraper.scrape(accept)
    return b"".join(part.plain() for part in parts).decode()


def samples_of(text: str) -> Samples:
    """The samples of an exposition, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def sample_of(scraper: FleetScraper, name: str, /, **labels: str) -> float | None:
    """One sample of a scrape; None if it is absent."""
    return samples_of(await text_of(scraper)).get((name, frozenset(labels.items())))
