"""The composition root: the only module that knows which adapter stands behind which port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from faststream import FastStream
from prometheus_client import CollectorRegistry, disable_created_metrics

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_contracts.commands import Health
from warren_contracts.subjects import PRESENCE_STREAM, TELEMETRY_STREAM
from warren_metrics.adapters.events import StreamEvents
from warren_metrics.adapters.postgres import PostgresFleet, make_store
from warren_metrics.adapters.prometheus import FleetCollector, exposed, from_loop, snapshot
from warren_metrics.counters import Counters
from warren_metrics.domain.fleet import Fleet
from warren_metrics.handlers import CONSUMER, HEARTBEATS, register_rpc, register_telemetry
from warren_metrics.ingest import Ingest
from warren_metrics.memory import StateWriter
from warren_metrics.settings import MetricsSettings
from warren_service import streams
from warren_service.broker import Broker, build_broker, serve
from warren_store import Store

NAME = "metrics"
LOAD_LIMIT = 10.0  # s that the start waits for the last known state; after that it is taken over when PostgreSQL comes


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ServiceComponents:
    """The running service."""

    broker: Broker
    bus: Connection
    store: Store
    memory: StateWriter
    declared: asyncio.Event  # the streams are there

    async def health(self) -> Health:
        """Ready when the bus and PostgreSQL are there, and the last known state has been taken over."""
        dependencies = {
            "postgres": await self.store.ready(), "nats": self.bus.is_connected, "state": self.memory.loaded,
        }  # fmt: skip
        return Health(service=NAME, ready=all(dependencies.values()), dependencies=dependencies)


@asynccontextmanager
async def assembled(bus_settings: BusSettings, settings: MetricsSettings) -> AsyncIterator[ServiceComponents]:
    """Everything in its place; the bus and PostgreSQL may still be unavailable."""
    broker = build_broker(bus_settings, NAME)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
    registry = CollectorRegistry()
    fleet = Fleet()
    async with (
        make_store(settings.postgres_dsn) as store,
        Connection(bus_settings, name=f"{NAME}-events", inbox_prefix=inbox(NAME)) as bus,
    ):
        memory = StateWriter(fleet, PostgresFleet(store), now=_now)
        parts = ServiceComponents(broker, bus, store, memory, asyncio.Event())
        register_telemetry(broker, Ingest(fleet, memory, StreamEvents(lambda: bus.client), Counters(registry)))
        register_rpc(broker, fleet, parts, _now)

        async def bus_connected() -> None:
            for spec in (streams.TELEMETRY, streams.PRESENCE):  # in this order: see warren_service.streams
                await streams.declare(bus.client.jetstream(), spec, settings.stream_replicas)
            parts.declared.set()

        bus.on_connected(bus_connected)
        take = from_loop(asyncio.get_running_loop(), lambda: snapshot(fleet, _now()))
        registry.register(FleetCollector(take))
        with exposed(registry, settings.metrics_host, settings.metrics_port):
            yield parts


async def run(bus_settings: BusSettings, settings: MetricsSettings) -> None:
    """Serve until SIGTERM or SIGINT; what waits to be written is written at the end."""
    async with assembled(bus_settings, settings) as parts, asyncio.TaskGroup() as group:
        keeping = group.create_task(parts.memory.run())
        app = FastStream(parts.broker, logger=None)

        @app.on_startup
        async def begin() -> None:
            await _stream_and_state(parts)

        await serve(app, [(TELEMETRY_STREAM, CONSUMER), (PRESENCE_STREAM, HEARTBEATS)])
        keeping.cancel()
        await parts.memory.flush()


async def _stream_and_state(parts: ServiceComponents) -> None:
    """Before the first message is taken: the streams must exist, and the last known state should be there."""
    await parts.declared.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(LOAD_LIMIT):
            await parts.memory.wait_loaded()
