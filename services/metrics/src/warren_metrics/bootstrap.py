"""The composition root: the only module that joins ports and adapters."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from faststream import FastStream
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_contracts.commands import Health
from warren_contracts.rollouts import PolicyRollout
from warren_contracts.subjects import PRESENCE_STREAM, TELEMETRY_STREAM
from warren_metrics.adapters.bus_state import INTERVAL, BusState
from warren_metrics.adapters.events import StreamEvents
from warren_metrics.adapters.exposition import exposed, read_token
from warren_metrics.adapters.postgres import PostgresFleetStore, make_store
from warren_metrics.adapters.prometheus import FleetScraper
from warren_metrics.agent_spans import AgentSpans
from warren_metrics.counters import IngestCounters
from warren_metrics.domain.ends import ends_of
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.recent_counters import RecentCounters
from warren_metrics.domain.rollouts import Rollouts
from warren_metrics.handlers import (
    CONSUMER,
    HEARTBEATS,
    register_history,
    register_membership,
    register_rollouts,
    register_telemetry,
    register_tunnels,
)
from warren_metrics.history import writer
from warren_metrics.history.postgres import PostgresHistory
from warren_metrics.history.queries import HistoryQueries
from warren_metrics.history.writer import HistoryWriter
from warren_metrics.ingest import Ingest
from warren_metrics.membership import INTERVAL as DIRECTORY_INTERVAL
from warren_metrics.membership import Membership
from warren_metrics.memory import StateWriter
from warren_metrics.settings import MetricsSettings
from warren_service import streams
from warren_service.broker import Broker, build_broker, serve
from warren_service.collector import spare_the_collector
from warren_service.event_pages import EventPages
from warren_service.policy_follower import PolicyFollower
from warren_service.verb_server import VerbServer
from warren_service.worker import Worker
from warren_store import Store

NAME = "metrics"
POLICY_CHECK = 30.0  # s between two checks for missed policies
LOAD_TIMEOUT = 10.0  # s that the start waits for the stored state; later it is restored when PostgreSQL is available


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ServiceComponents:
    """The running service."""

    broker: Broker
    bus: Connection
    store: Store
    memory: StateWriter
    declared: asyncio.Event  # the streams exist
    policies: Worker
    bus_state: Worker
    history: Worker
    membership: Membership
    directory: Worker

    async def health(self) -> Health:
        """Ready when the bus and PostgreSQL are available, and the stored state was restored."""
        dependencies = {
            "postgres": await self.store.ready(), "nats": self.bus.is_connected, "state": self.memory.loaded,
        }  # fmt: skip
        remark = self.membership.remark(self.directory.failing)
        remarks = {"directory": remark} if remark else {}
        return Health(service=NAME, ready=all(dependencies.values()), dependencies=dependencies, remarks=remarks)


@asynccontextmanager
async def assembled(bus_settings: BusSettings, settings: MetricsSettings) -> AsyncIterator[ServiceComponents]:
    """Compose the service; the bus and PostgreSQL may still be unavailable."""
    certificate = settings.certificate()
    broker = build_broker(bus_settings, NAME)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which is not used
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    fleet = FleetTelemetry()
    async with (
        make_store(settings.postgres_dsn) as store,
        Connection(bus_settings, name=f"{NAME}-events", inbox_prefix=inbox(NAME)) as bus,
    ):
        memory = StateWriter(fleet, PostgresFleetStore(store), now=_now)

        rollouts = Rollouts()

        def policies_changed() -> None:
            rollouts.publish(policies.view.policies(), max(policies.view.epochs, default=0), _now())
            memory.changed(fleet.set_ends(ends_of(policies.view.policies())))
            if policies.missed:
                check.wake()

        policies = PolicyFollower(bus, settings.policy_public_key, policies_changed)
        check = Worker("policies", policies.check, POLICY_CHECK)
        membership = Membership(lambda: bus.client, rollouts.set_tags)
        directory = Worker("directory", membership.step, DIRECTORY_INTERVAL)
        consumers = {CONSUMER: TELEMETRY_STREAM, HEARTBEATS: PRESENCE_STREAM}
        expires = None if certificate is None else certificate.expires
        bus_state = BusState(lambda: bus.client, consumers, registry, expires)
        looking = Worker("bus-state", bus_state.look, INTERVAL)
        rows, retention = PostgresHistory(store), timedelta(days=settings.history_days)
        history = HistoryWriter(rows, EventPages(lambda: bus.client), retention, now=_now)
        following = Worker("history", history.step, writer.INTERVAL)
        components = ServiceComponents(
            broker, bus, store, memory, asyncio.Event(), check, looking, following, membership, directory
        )
        counters, spans, recent = IngestCounters(registry), AgentSpans(broker.tracer), RecentCounters()
        ingest = Ingest(fleet, memory, StreamEvents(lambda: bus.client), counters, spans, recent)
        register_telemetry(broker, ingest)
        register_membership(broker, directory.wake)

        def progress(now: datetime) -> Sequence[PolicyRollout]:
            return rollouts.progress(fleet, ingest.edits, now)

        verbs = VerbServer(broker, NAME)
        register_tunnels(verbs, fleet, recent, _now)
        register_rollouts(verbs, lambda: progress(_now()))
        verbs.serve_health(components)
        register_history(verbs, HistoryQueries(rows, retention, lambda name: name in fleet.tunnels, now=_now))

        async def bus_connected() -> None:
            for spec in (streams.TELEMETRY, streams.PRESENCE, streams.EVENT):
                await streams.wait_for(bus.client.jetstream(), spec.name)
            components.declared.set()
            await policies.follow()
            check.wake()
            directory.wake()

        bus.on_connected(bus_connected)
        revision = lambda: max(map(policies.view.revision, policies.view.readers), default=0)  # noqa: E731
        aliases = settings.metrics_alias_names == "on"
        scraper = FleetScraper(fleet, registry, _now, revision=revision, rollouts=progress, aliases=aliases)
        token = read_token(settings.metrics_token_file)
        async with exposed(scraper, settings.metrics_host, settings.metrics_port, token, certificate):
            yield components


async def run(bus_settings: BusSettings, settings: MetricsSettings) -> None:
    """Serve until SIGTERM or SIGINT; pending rows are written at the end."""
    spare_the_collector()
    async with assembled(bus_settings, settings) as components, asyncio.TaskGroup() as group:
        writing = group.create_task(components.memory.run())
        workers = (components.policies, components.bus_state, components.history, components.directory)
        background = [group.create_task(it.run()) for it in workers]
        app = FastStream(components.broker, logger=None)

        @app.on_startup
        async def begin() -> None:
            await _stream_and_state(components)

        await serve(app, [(TELEMETRY_STREAM, CONSUMER), (PRESENCE_STREAM, HEARTBEATS)])
        writing.cancel()
        for task in background:
            task.cancel()
        await components.memory.flush()


async def _stream_and_state(components: ServiceComponents) -> None:
    """Wait before the first message: the streams must exist, and the stored state should be restored."""
    await components.declared.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(LOAD_TIMEOUT):
            await components.memory.wait_loaded()
