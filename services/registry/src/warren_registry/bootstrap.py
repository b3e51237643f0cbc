"""The composition root: the only module that joins ports and adapters."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from faststream import FastStream

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_contracts.commands import Health
from warren_contracts.documents import SignerRole
from warren_contracts.names import PeerId
from warren_contracts.problems import UnavailableError
from warren_registry.adapters.nats.heartbeats import Heartbeats
from warren_registry.adapters.nats.policy_service import PolicyCalls
from warren_registry.adapters.nats.stream import DirectoryStream
from warren_registry.adapters.nats.system import ServerSystem
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.directory import digests as digest_worker
from warren_registry.directory.digests import Digests
from warren_registry.directory.reconciler import DirectoryReconciler
from warren_registry.directory.relay import DirectoryRelay
from warren_registry.epoch.bus_access import BusAccessFile
from warren_registry.epoch.trust import Trust
from warren_registry.epoch.worker import Epochs
from warren_registry.handlers import register_agents, register_services, register_tokens
from warren_registry.outbox import OutboxRelay
from warren_registry.peers.address_claims import PolicyClaimsCache
from warren_registry.presence.kicks import Kicks
from warren_registry.presence.remarks import remarks
from warren_registry.presence.sweep import INTERVAL as SWEEP_INTERVAL
from warren_registry.presence.sweep import ConnectionSweep
from warren_registry.presence.tracker import PresenceTracker
from warren_registry.service import FollowedStreams, Registry
from warren_registry.settings import RegistrySettings
from warren_registry.token_service import TokenService
from warren_service import streams
from warren_service.broker import Broker, build_broker, serve
from warren_service.guarded_publisher import StreamAheadError
from warren_service.policy_follower import PolicyFollower
from warren_service.restore_guard import RestoreGuard
from warren_service.verb_server import VerbServer
from warren_service.worker import Worker
from warren_trust.keys import KeyKind, read_seed
from warren_trust.signing import Signer

log = structlog.get_logger(__name__)

NAME = "registry"
FALLBACK = 5.0  # s: a step runs this often without a wake-up (another process may have written)
DIGEST_DELAY = 0.25  # s after a change until the digests of changed readers are published
CHECK = 30.0  # s between two checks for missed policies
TRUST_CHECK = 10.0  # s between two looks at the CA file
RECLAIM = 3_600.0  # s between two deletions of old withdrawals


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ServiceComponents:
    """The running service."""

    broker: Broker
    bus: Connection
    database: PostgresDatabase
    loops: dict[str, Worker]
    epochs: Epochs
    presence: PresenceTracker

    async def health(self) -> Health:
        """Ready when PostgreSQL and the bus are available, the database is not older than its stream, and the directory can be
        published."""
        restored = self.epochs.restored
        reasons = {"epoch": restored}
        for name in ("policies", "directory", "relay", "events"):
            failing = self.loops[name].failing
            reasons[name] = "" if failing == restored else failing  # the same reason is reported once
        if reasons["directory"] and not restored:  # it waits for the epoch, whose reason is more specific
            reasons["directory"] = self.loops["epoch"].failing or reasons["directory"]
        dependencies = {
            "postgres": await self.database.ready(),
            "nats": self.bus.is_connected,
            **{name: not reason for name, reason in reasons.items()},
        }
        detail = {name: reason for name, reason in reasons.items() if reason}
        return Health(
            service=NAME, ready=all(dependencies.values()), dependencies=dependencies, detail=detail, remarks=remarks(self.presence)
        )  # fmt: skip


@asynccontextmanager
async def assembled(bus_settings: BusSettings, settings: RegistrySettings) -> AsyncIterator[ServiceComponents]:
    """Compose the registry; the bus and PostgreSQL may still be unavailable."""
    broker = build_broker(bus_settings, NAME)
    async with (
        registry_store(settings.postgres_dsn) as store,
        Connection(bus_settings, name=f"{NAME}-worker", inbox_prefix=inbox(NAME)) as bus,
    ):
        database = PostgresDatabase(store)
        runtime = Runtime(bus, database, settings, bus_settings.ca_file)
        components = ServiceComponents(broker, bus, database, runtime.loops, runtime.epochs, runtime.presence)
        register_agents(broker, runtime.registry, runtime.signer)
        verbs = VerbServer(broker, NAME)
        register_services(verbs, runtime.registry, runtime.signer)
        register_tokens(verbs, runtime.tokens)
        verbs.serve_health(components)
        runtime.connect()
        yield components


async def run(bus_settings: BusSettings, settings: RegistrySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    async with assembled(bus_settings, settings) as components, asyncio.TaskGroup() as group:
        background = [group.create_task(loop.run(), name=name) for name, loop in components.loops.items()]
        await serve(FastStream(components.broker, logger=None))
        for task in background:
            task.cancel()
        await asyncio.wait(background)
        with suppress(UnavailableError):
            await components.presence.step(stopping=True)


class Runtime:
    """Wake workers on changes.

    A commit wakes the reconciler, the events and the kicks; a change of policies wakes the reconciler; its updates wake the
    relay; a publication of the relay wakes the digests.
    """

    def __init__(
        self, bus: Connection, database: PostgresDatabase, settings: RegistrySettings, ca_file: Path | None
    ) -> None:
        self.signer = Signer(read_seed(settings.signing_key_file, KeyKind.SIGNING), SignerRole.REGISTRY)
        root = Signer(read_seed(settings.root_key_file, KeyKind.SIGNING), SignerRole.ROOT)
        self._bus = bus
        self._database = database
        stream = DirectoryStream(bus, self.signer)
        restore_guard = RestoreGuard(streams.DIRECTORY.name)
        self._trust = Trust(
            root, settings.policy_public_key, self.signer.public_key, BusAccessFile(settings.bus_urls, ca_file)
        )
        system = ServerSystem(bus)
        self._policies = PolicyFollower(bus, settings.policy_public_key, self._policies_changed)
        policy_claims = PolicyClaimsCache(lambda: self._policies.view, settings.bus_servers)
        calls = PolicyCalls(lambda: bus.client)
        self.epochs = Epochs(database, stream, restore_guard, self._policies, self._trust, calls)
        self._reconciler = DirectoryReconciler(
            database,
            self._policies,
            self.signer,
            restore_guard,
            utc_now,
            stream_versions=lambda: self.epochs.stream_versions,
        )
        self._relay = DirectoryRelay(database, stream, restore_guard)
        self._digests = Digests(database, self._reconciler, self._policies, stream, restore_guard)
        self.presence = PresenceTracker(database, utc_now, self._presence_changed)
        self._connections = ConnectionSweep(system, self.presence, lambda: self._reconciler.peers, self._operators)
        self._events = OutboxRelay(database, lambda: bus.client)
        self._kicks = Kicks(database, system)
        self._heartbeats = Heartbeats(bus, self.presence.receive)
        self._all_digests_at = float("-inf")
        self.registry = Registry(
            database, self._trust, FollowedStreams(restore_guard, self.epochs, self._digests, policy_claims), self.presence, self,
            clock=utc_now,
        )  # fmt: skip
        self.tokens = TokenService(database, self._trust, self.committed, clock=utc_now, random=os.urandom)
        self.loops = {
            "epoch": Worker("epoch", self._keep_epoch, FALLBACK),
            "policies": Worker("policies", self._policies.check, CHECK),
            "directory": Worker("directory", self._reconcile, FALLBACK),
            "relay": Worker("relay", self._publish, FALLBACK),
            "digests": Worker("digests", self._digest, digest_worker.INTERVAL),
            "presence": Worker("presence", self._save_presence, 1.0),
            "heartbeats": Worker("heartbeats", self._heartbeats.follow, 0.5),
            "events": Worker("events", self._events.step, FALLBACK),
            "kicks": Worker("kicks", self._kicks.step, FALLBACK),
            "sweep": Worker("sweep", self._connections.sweep, SWEEP_INTERVAL),
            "trust": Worker("trust", self._follow_access, TRUST_CHECK),
            "reclaim": Worker("reclaim", lambda: self._relay.reclaim(utc_now()), RECLAIM),
        }

    async def _operators(self) -> frozenset[str]:
        async with self._database.transaction() as tables:
            return await tables.operators.valid_operators(utc_now())

    async def _follow_access(self) -> None:
        """Publish a new trust document when the servers or their CAs have changed: digests name its revision."""
        async with self._database.transaction() as tables:
            if (await tables.fleet.state()).epoch == self._digests.epoch:
                revision = (await self._trust.document(tables)).revision
                changed = revision != self._digests.trust_revision
            else:
                changed = False  # nothing is published before the epoch is
        if changed:
            log.info("trust.changed", revision=revision)
            self._all_digests_at = float("-inf")
            self.loops["digests"].wake()

    def connect(self) -> None:
        """Follow the bus from now on."""
        self._bus.on_connected(self._connected)
        self._bus.on_disconnected(self._relay.disconnected)
        self._bus.on_disconnected(self.epochs.request_comparison)

    async def _connected(self) -> None:
        await self._policies.follow()
        await self._connections.follow()
        for name in ("epoch", "policies", "relay", "sweep", "kicks", "events"):
            self.loops[name].wake()

    def epoch_announced(self, actor: str) -> None:
        """See `service.BackgroundWork`."""
        self.epochs.actor = actor
        self.loops["epoch"].wake()

    async def _keep_epoch(self) -> None:
        before = self.loops["epoch"].failing
        await self.epochs.step()
        if before:
            for name in ("directory", "relay", "digests"):
                self.loops[name].wake()

    async def confirm_connections(self, peer: PeerId) -> None:
        """See `service.BackgroundWork`."""
        await self._connections.confirm(peer)

    def committed(self) -> None:
        """See `service.BackgroundWork`."""
        for name in ("directory", "events", "kicks"):
            self.loops[name].wake()

    def _policies_changed(self) -> None:
        for name in ("epoch", "directory", "digests"):
            self.loops[name].wake()
        if self._policies.missed:
            self.loops["policies"].wake()

    def _presence_changed(self) -> None:
        self.loops["presence"].wake()

    async def _reconcile(self) -> None:
        before = self._reconciler.epoch
        if await self._reconciler.step():
            self.loops["relay"].wake()
        if self._reconciler.epoch != before:
            self.loops["digests"].wake()

    async def _publish(self) -> None:
        try:
            if await self._relay.step():
                self.loops["digests"].wake()
        except StreamAheadError:  # the database was restored while we ran
            self.epochs.request_comparison()
            self.loops["epoch"].wake()
            raise

    async def _digest(self) -> None:
        await asyncio.sleep(DIGEST_DELAY)
        now = time.monotonic()
        all_readers = now - self._all_digests_at >= digest_worker.INTERVAL
        await self._digests.step(all_readers=all_readers)
        if all_readers:
            self._all_digests_at = now

    async def _save_presence(self) -> None:
        if await self.presence.step():
            self.loops["events"].wake()
