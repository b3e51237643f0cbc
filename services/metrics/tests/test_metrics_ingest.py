import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from warren_contracts.status import DriverState, DriverStatus, ReasonCode, TrafficStats
from warren_contracts.telemetry import AgentState, Applied, AttemptFailure, Presence, Report, TunnelChange
from warren_metrics import memory
from warren_metrics.adapters.postgres import PostgresFleetStore, make_store
from warren_metrics.adapters.prometheus import FleetScraper
from warren_metrics.counters import IngestCounters
from warren_metrics.domain import fleet as fleet_module
from warren_metrics.domain.budget import MAX_WEIGHT
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.flood import NEW_BURST, NEW_RATE
from warren_metrics.domain.peers import TunnelView
from warren_metrics.ingest import Ingest, Raw
from warren_metrics.memory import StateWriter
from warren_metrics.ports import FleetStore, RowChanges
from warren_testkit.metrics import START, MemoryEvents, MemoryFleet, place, sample_of, samples_of, status, text_of
from warren_testkit.postgres import PostgresServer
from warren_testkit.waiting import eventually

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
SECOND = timedelta(seconds=1)


class Service:
    """The service without its bus."""

    def __init__(self, store: FleetStore) -> None:
        self.fleet = FleetTelemetry()
        self.events = MemoryEvents()
        self.registry = CollectorRegistry()
        self.now = START
        self.memory = StateWriter(self.fleet, store, now=lambda: self.now)
        self.ingest = Ingest(self.fleet, self.memory, self.events, IngestCounters(self.registry))
        self.scraper = FleetScraper(self.fleet, self.registry, lambda: self.now)

    async def sample(self, name: str, /, **labels: str) -> float | None:
        return await sample_of(self.scraper, name, **labels)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.memory.run())
        await self.memory.wait_loaded()
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.memory.flush()


def raw(sequence: int, peer: str, kind: str, body: Any) -> Raw:
    payload = body if isinstance(body, bytes) else body.model_dump_json().encode()
    return Raw(f"warren.v1.telemetry.{peer}.{kind}", payload, place(sequence), TRACE)


def report(sequence: int, peer: str, *tunnels: Any, **fields: Any) -> Raw:
    return raw(sequence, peer, "report", Report(at=START, tunnels=tunnels, **fields))


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[FleetStore]:
    if request.param == "memory":
        yield MemoryFleet()
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    server.sql("DROP SCHEMA IF EXISTS metrics CASCADE")
    async with make_store(server.dsn()) as real:
        yield PostgresFleetStore(real)


def _without_certainty(fleet: FleetTelemetry) -> dict[str, dict[str, TunnelView]]:
    return {
        name: {peer: view._replace(counters_known=True) for peer, view in ends.items()}
        for name, ends in fleet.tunnels.items()
    }


async def test_a_restart_shows_the_last_known_state(store: FleetStore) -> None:
    first = Service(store)
    async with first.running():
        await first.ingest.batch([report(1, "gw1", status("a"), status("b")), report(2, "gw2", status("c"))])
        await first.ingest.batch([report(3, "gw1", status("a", "down"))])  # b is gone
    second = Service(store)
    async with second.running():
        assert _without_certainty(second.fleet) == _without_certainty(first.fleet)
        assert second.fleet.peers == first.fleet.peers
        await second.ingest.batch([report(3, "gw1", status("a", "up"))])  # delivered again: nothing new
        assert second.events.published == []


async def test_an_invalid_message_does_not_affect_its_batch_and_is_counted() -> None:
    service = Service(MemoryFleet())
    await service.ingest.batch(
        [
            raw(1, "gw1", "report", b"{"),
            report(2, "gw1", status("a")),
            raw(3, "gw1", "gossip", b"{}"),
            report(4, "mallory", status("gw1+hub")),
        ]
    )
    assert set(service.fleet.tunnels) == {"a"}
    assert await service.sample("warren_telemetry_rejected_total", reason="malformed") == 1
    assert await service.sample("warren_telemetry_rejected_total", reason="kind") == 1
    assert await service.sample("warren_telemetry_rejected_total", reason="foreign-tunnel") == 1
    assert await service.sample("warren_telemetry_messages_total", kind="report") == 2


async def test_events_carry_the_trace_of_their_cause() -> None:
    service = Service(MemoryFleet())
    await service.ingest.batch([report(1, "gw1", status("a"))])
    assert [event.traceparent for event in service.events.published] == [TRACE]


async def test_a_crash_before_the_events_are_stored_publishes_them_again_with_the_same_ids() -> None:
    store = MemoryFleet()
    first = Service(store)
    batch = [report(1, "gw1", status("a"), status("b"))]
    async with first.running():
        first.events.failing = True
        with pytest.raises(ConnectionError):
            await first.ingest.batch(batch)
    assert store.tunnels == {}  # nothing on disk implies that they were published
    second, third = Service(store), Service(MemoryFleet())
    async with second.running():
        await second.ingest.batch(batch)
    await third.ingest.batch(batch)
    assert len(second.events.published) == 2
    assert [event.event_id for event in second.events.published] == [event.event_id for event in third.events.published]


async def test_the_service_goes_on_without_postgresql_and_writes_when_it_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("warren_metrics.memory.RETRY_INTERVAL", 0.01)
    monkeypatch.setattr("warren_metrics.memory.FLUSH_INTERVAL", 0.01)
    store = MemoryFleet()
    service = Service(store)
    async with service.running():
        store.unavailable = True
        await service.ingest.batch([report(1, "gw1", status("a"))])
        await service.ingest.batch([report(2, "gw1", status("b"))])
        assert set(service.fleet.tunnels) == {"b"}
        store.unavailable = False
        await eventually(lambda: set(store.tunnels) == {("gw1", "b")})


async def test_a_start_without_postgresql_restores_the_stored_state_later() -> None:
    store = MemoryFleet()
    first = Service(store)
    async with first.running():
        await first.ingest.batch([report(1, "gw1", status("a"))])
    store.unavailable = True
    second = Service(store)
    assert not await second.memory.load()
    store.unavailable = False
    async with second.running():
        assert set(second.fleet.tunnels) == {"a"}


async def test_the_exposition_has_the_documented_names() -> None:
    service = Service(MemoryFleet())
    traffic = TrafficStats(bytes_in=1_048_576, bytes_out=2_097_152, packets_in=10, packets_out=20)
    presence = Presence(state="online", at=START, agent=AgentState.WATCH, started_at=START, queued=4)
    tunnels = status("tunnel-1", traffic=traffic, rekeys=5), status("tunnel-2", "down")
    await service.ingest.batch([raw(1, "gw1", "presence", presence), report(2, "gw1", *tunnels, dpd_failures=3)])
    service.now = START + 10 * SECOND
    found = samples_of(await text_of(service.scraper))

    def of(name: str) -> dict[str, float]:
        return {dict(labels)["tunnel"]: value for (other, labels), value in found.items() if other == name}

    def of_peer(name: str) -> float:
        return found[name, frozenset({("peer", "gw1")})]

    assert of("warren_tunnel_up") == {"tunnel-1": 1, "tunnel-2": 0}
    assert of("warren_tunnel_receive_bytes_total") == {"tunnel-1": 1_048_576, "tunnel-2": 0}
    assert of("warren_tunnel_transmit_bytes_total") == {"tunnel-1": 2_097_152, "tunnel-2": 0}
    assert of("warren_tunnel_receive_packets_total") == {"tunnel-1": 10, "tunnel-2": 0}
    assert of("warren_tunnel_rekeys_total") == {"tunnel-1": 5, "tunnel-2": 0}
    assert of_peer("warren_peer_policy_sync_errors_total") == 0
    assert of_peer("warren_peer_dpd_failures_total") == 3
    assert of_peer("warren_agent_start_time_seconds") == START.timestamp()
    assert of_peer("warren_agent_queue_messages") == 4
    assert of_peer("warren_peer_clock_skew_seconds") == -1.0
    assert of_peer("warren_peer_online") == 1
    assert found["warren_peers_online", frozenset()] == 1


async def test_series_vanish_with_their_tunnel() -> None:
    service = Service(MemoryFleet())
    await service.ingest.batch([report(1, "gw1", status("a"), status("b"))])
    change = TunnelChange(at=START, previous=None, status=status("a", "down"), removed=True)
    await service.ingest.batch([raw(2, "gw1", "tunnel", change)])
    assert not [key for key in samples_of(await text_of(service.scraper)) if ("tunnel", "a") in key[1]]


async def test_an_offline_peer_keeps_counters_and_loses_its_state() -> None:
    service = Service(MemoryFleet())
    await service.ingest.batch([report(1, "gw1", status("a", traffic=TrafficStats(bytes_in=7)))])
    service.now = START + 60 * SECOND
    labels = {"tunnel": "a", "peer": "gw1"}
    assert await service.sample("warren_tunnel_up", **labels) is None
    assert await service.sample("warren_tunnel_stale", **labels) == 1
    assert await service.sample("warren_tunnel_receive_bytes_total", **labels) == 7
    assert await service.sample("warren_peer_online", peer="gw1") == 0
    assert await service.sample("warren_agent_start_time_seconds", peer="gw1") is None


async def test_a_daemon_that_is_unavailable_is_a_gauge_of_its_own() -> None:
    service = Service(MemoryFleet())
    beats = [
        Presence(
            state="online",
            at=START,
            agent=AgentState.WATCH,
            started_at=START,
            drivers=(DriverStatus(kind="strongswan", state=state),),
        )
        for state in (DriverState.UNKNOWN, DriverState.UNREACHABLE, DriverState.UP)
    ]
    for sequence, (beat, value) in enumerate(zip(beats, (None, 0, 1), strict=True), start=1):
        await service.ingest.batch([raw(sequence, "gw1", "presence", beat)])
        assert await service.sample("warren_daemon_up", peer="gw1", driver="strongswan") == value


async def test_applies_and_reasons_are_counted() -> None:
    service = Service(MemoryFleet())
    applied = Applied(at=START, epoch=1, revision=1, ok=False, duration_ms=40, delivered_at=START)
    reason = AttemptFailure.model_validate({"at": START, "tunnel": "t", "code": "ts-mismatch"})
    await service.ingest.batch([raw(1, "gw1", "applied", applied), raw(2, "gw1", "reason", reason)])
    assert await service.sample("warren_policy_apply_duration_seconds_sum", peer="gw1") == pytest.approx(0.04)
    assert await service.sample("warren_policy_apply_failures_total") == 1
    assert await service.sample("warren_tunnel_failures_total", reason="ts-mismatch") == 1
    assert await service.sample("warren_policy_applied_revision", peer="gw1") == 0
    assert await service.sample("warren_policy_received_revision", peer="gw1") == 1
    await service.ingest.batch([report(3, "gw1", status("a", "error", reason=ReasonCode.DAEMON_UNREACHABLE))])
    assert await service.sample("warren_tunnel_failures_total", reason="daemon-unreachable") == 1
    service.ingest.dead_letter(9)
    assert await service.sample("warren_telemetry_dead_letters_total") == 1


def compact(sequence: int, peer: str, *tunnels: Any, **fields: Any) -> Raw:
    """A report without what need not be said: most tunnels a message."""
    report = Report(at=START, tunnels=tunnels, **fields)
    return raw(sequence, peer, "report", report.model_dump_json(exclude_defaults=True).encode())


FAT_SAS = tuple({"spi_in": f"{n:08x}", "spi_out": f"{n:08x}", "cipher": "aes256gcm16"} for n in range(64))


@pytest.mark.slow
@pytest.mark.parametrize("spaces", ["", " "], ids=["as agents write it", "in other words"])
async def test_a_peer_past_its_budget_is_counted_as_rejected_and_no_other_is(
    monkeypatch: pytest.MonkeyPatch, spaces: str
) -> None:
    """Each report has 25 tunnels with 64 SAs; 120 of nearly twice as many took 470 MB of a service without the budget."""
    monkeypatch.setattr(fleet_module, "MAX_WEIGHT", MAX_WEIGHT // 16)
    service, reports = Service(MemoryFleet()), 1 + MAX_WEIGHT // 16 // (25 * 8_000)
    for sequence in range(1, reports + 1):
        fat = [status(f"t{sequence}-{n}", link={"children": FAT_SAS}) for n in range(25)]
        sent = compact(sequence, "evil", *fat, part=sequence % 2, parts=128)
        await service.ingest.batch(
            [replace(sent, payload=sent.payload.replace(b'{"name"', b'{%s"name"' % spaces.encode()))]
        )
    await service.ingest.batch([report(121, "gw1", status("mine", link={"children": FAT_SAS}))])
    held = service.fleet.names_of("evil")
    assert len(held) > 25
    assert sum(len(service.fleet.tunnels[name]["evil"].encoded) for name in held) <= MAX_WEIGHT // 16
    assert await service.sample("warren_telemetry_rejected_total", reason="over-budget") == 25 * reports - len(held)
    assert service.fleet.names_of("gw1") == ("mine",)


@pytest.mark.slow
async def test_what_waits_to_be_written_is_bounded_whatever_names_a_peer_invents() -> None:
    service = Service(MemoryFleet())
    for sequence in range(1, 41):
        await service.ingest.batch([compact(sequence, "evil", *(status(f"t{sequence}-{n}") for n in range(1_000)))])
    assert len(service.memory._tunnels) <= NEW_BURST + 40 * NEW_RATE
    assert (
        await service.sample("warren_telemetry_rejected_total", reason="too-many-tunnels") or 0
    ) >= 40_000 - NEW_BURST - 4_000


async def test_a_heartbeat_marks_no_row_before_the_events_of_its_peer_are_published() -> None:
    service = Service(MemoryFleet())
    beat = raw(1, "gw1", "presence", Presence(state="online", at=START, agent=AgentState.WATCH, started_at=START))
    release = asyncio.Event()
    publish = service.events.publish

    async def slowly(events: Any) -> None:
        await release.wait()
        await publish(events)

    service.events.publish = slowly  # type: ignore[method-assign]  # an instance of the fake, slowed down
    batches = [asyncio.create_task(service.ingest.batch([one])) for one in (report(1, "gw1", status("a")), beat)]
    await eventually(lambda: "gw1" in service.fleet.peers)
    assert not service.memory._peers
    release.set()
    await asyncio.gather(*batches)
    assert service.memory._peers == {"gw1"}


async def test_counters_alone_are_written_some_at_a_time_and_all_of_them_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "COUNTERS_AT_ONCE", 2)
    monkeypatch.setattr(memory, "FLUSH_INTERVAL", 0.01)
    store = MemoryFleet()
    service = Service(store)
    names = [f"t{n}" for n in range(10)]
    async with service.running():
        await service.ingest.batch([report(1, "gw1", *(status(name) for name in names))])
        await eventually(lambda: len(store.tunnels) == 10)
        saved: list[int] = []
        save = store.save

        async def counted(rows: RowChanges) -> None:
            saved.append(len(rows.tunnels))
            await save(rows)

        store.save = counted  # type: ignore[method-assign]  # an instance of the fake
        await service.ingest.batch(
            [report(2, "gw1", *(status(name, rekeys=1) for name in names[:9]), status("t9", "down"))]
        )
        await eventually(lambda: sum(saved) == 10)
        assert saved[0] <= 3
    assert {view.rekeys for (_, name), view in store.tunnels.items() if name != "t9"} == {1}
