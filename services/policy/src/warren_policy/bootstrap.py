"""The composition root: the only module that knows which adapter stands behind which port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from faststream import FastStream

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_contracts.commands import Health
from warren_contracts.documents import SignerRole
from warren_contracts.problems import UnavailableError
from warren_policy.adapters.postgres import CHANNEL, PostgresOutbox, PostgresPolicies, make_store
from warren_policy.adapters.published import NatsPublishedStreams
from warren_policy.adapters.registry import CheckedDirectory
from warren_policy.adapters.stream import StreamPublisher
from warren_policy.domain.derived import DerivedSets
from warren_policy.epochs import EpochFollower
from warren_policy.handlers import register, register_published, register_records
from warren_policy.planner import Planner
from warren_policy.records import PolicyRecords
from warren_policy.relay import PolicyRelay
from warren_policy.service import PolicyService
from warren_policy.settings import PolicySettings
from warren_service import streams
from warren_service.broker import Broker, build_broker, serve
from warren_service.collector import spare_the_collector
from warren_service.restore_guard import RestoreGuard
from warren_service.verb_server import VerbServer
from warren_store import Listener, Store
from warren_trust.keys import KeyKind, read_seed
from warren_trust.signing import Signer

NAME = "policy"


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid4())


@dataclass(frozen=True, slots=True)
class ServiceComponents:
    """The running service."""

    broker: Broker
    bus: Connection
    store: Store
    listener: Listener
    relay: PolicyRelay
    queue: PostgresOutbox
    policies: PostgresPolicies
    restore_guard: RestoreGuard

    async def health(self) -> Health:
        """Ready when PostgreSQL and the bus are there, the database is not older than what was published from it, and
        nothing keeps the relay from publishing."""
        postgres = await self.store.ready()
        words = {
            "epoch": await self._restored() if postgres and self.restore_guard.behind else "",
            "outbox": await self._waiting(postgres) if self.relay.blocked_reason else self.restore_guard.unknown,
        }
        detail = {name: said for name, said in words.items() if said}
        dependencies = {
            "postgres": postgres,
            "nats": self.bus.is_connected,
            **{name: not words[name] for name in words},
        }
        return Health(service=NAME, ready=all(dependencies.values()), dependencies=dependencies, detail=detail)

    async def _restored(self) -> str:
        try:
            return self.restore_guard.blocked_reason((await self.policies.version())[0])
        except UnavailableError as error:
            return str(error)

    async def _waiting(self, postgres: bool) -> str:
        try:
            count = f"{await self.queue.pending()} revisions wait: " if postgres else ""
        except UnavailableError:
            count = ""
        return count + self.relay.blocked_reason


@asynccontextmanager
async def assembled(bus_settings: BusSettings, settings: PolicySettings) -> AsyncIterator[ServiceComponents]:
    """Everything in its place; the bus and PostgreSQL may still be unavailable."""
    signer = Signer(read_seed(settings.signing_key_file, KeyKind.SIGNING), SignerRole.POLICY)
    broker = build_broker(bus_settings, NAME)
    async with (
        make_store(settings.postgres_dsn) as store,
        Connection(bus_settings, name=f"{NAME}-relay", inbox_prefix=inbox(NAME)) as bus,
    ):
        publisher = StreamPublisher(lambda: bus.client, signer)
        queue, policies, restore_guard = (
            PostgresOutbox(store),
            PostgresPolicies(store),
            RestoreGuard(streams.POLICY.name),
        )
        relay = PolicyRelay(policies, queue, publisher, restore_guard, now=_now)
        directory = CheckedDirectory(lambda: bus.client)
        derived = DerivedSets()
        service = PolicyService(
            policies, directory, derived, now=_now, new_id=_new_id, committed=relay.wake,
            restore_guard=restore_guard,
        )  # fmt: skip
        epochs = EpochFollower(
            policies, queue, restore_guard, relay, settings.root_public_key, now=_now, new_id=_new_id,
        )  # fmt: skip

        async def bus_connected() -> None:
            js = bus.client.jetstream()
            for spec in (streams.POLICY, streams.EVENT):
                await streams.wait_for(js, spec.name)
            publisher.forget()
            relay.bus_returned()

        async def outbox_changed(revision: str) -> None:
            relay.wake()

        async def database_returned() -> None:
            relay.bus_returned()  # it may have been restored meanwhile

        listener = Listener(store, CHANNEL, on_gap=database_returned, on_notify=outbox_changed)
        parts = ServiceComponents(broker, bus, store, listener, relay, queue, policies, restore_guard)
        verbs = VerbServer(broker, NAME)
        register(verbs, service, Planner(policies, directory, derived), epochs)
        register_records(verbs, PolicyRecords(policies, _now))
        register_published(verbs, NatsPublishedStreams(lambda: bus.client))
        verbs.serve_health(parts)
        bus.on_connected(bus_connected)
        bus.on_disconnected(relay.bus_lost)
        yield parts


async def run(bus_settings: BusSettings, settings: PolicySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    spare_the_collector()
    async with assembled(bus_settings, settings) as parts, asyncio.TaskGroup() as group:
        background = [group.create_task(parts.relay.run()), group.create_task(parts.listener.run())]
        await serve(FastStream(parts.broker, logger=None))
        for task in background:
            task.cancel()
