"""`python -m warren_metrics` as a whole, on a real nats-server and a real PostgreSQL."""

import asyncio
import contextlib
import signal
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.request import urlopen

import pytest
from nats.errors import TimeoutError as NatsTimeout
from prometheus_client.parser import text_string_to_metric_families

from warren_bus.connection import Connection
from warren_bus.errors import BusError
from warren_bus.publisher import EventPublisher
from warren_bus.rpc import call
from warren_contracts import cloudevents, subjects
from warren_contracts.commands import Empty, GetTunnel, Health, ListTunnels, TunnelList
from warren_contracts.events import PeerRevoked, PolicyApplied, TunnelChanged
from warren_contracts.problems import NotFoundError, UnavailableError
from warren_contracts.status import FleetTunnel, TrafficStats, TunnelState, TunnelStatus
from warren_contracts.telemetry import AgentState, Applied, Presence, Report, TunnelChange
from warren_contracts.tunnel_history import (
    AppliedEntry,
    FleetAtQuery,
    FleetObserved,
    StateEntry,
    TunnelHistory,
    TunnelHistoryQuery,
)
from warren_metrics.handlers import ACK_WAIT
from warren_testkit.bus import RealServer, free_port
from warren_testkit.postgres import PostgresServer
from warren_testkit.waiting import eventually

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def now() -> datetime:
    return datetime.now(UTC)


def up(name: str, **fields: Any) -> TunnelStatus:
    return TunnelStatus(name=name, state=TunnelState.UP, **fields)


@dataclass
class World:
    """A metrics process, agents with their own rights, and a caller with the gateway's."""

    bus: RealServer
    database: PostgresServer
    process: Any
    api: Connection
    policy: Connection
    agents: dict[str, Connection]
    port: int

    async def say(self, peer: str, kind: str, body: Any) -> None:
        """As an agent does: acknowledged, with a random id."""
        publisher = EventPublisher(lambda: self.agents[peer].client, f"/peers/{peer}")
        await publisher.publish(subjects.telemetry(peer, kind), cloudevents.TELEMETRY_TYPES[kind], body)

    async def call(self, verb: str, request: Any, reply: Any) -> Any:
        return await call(self.api.client, subjects.rpc("metrics", verb), request, reply, timeout=20)

    async def tunnel(self, name: str) -> FleetTunnel | None:
        try:
            found: FleetTunnel = await self.call("tunnel", GetTunnel(name=name), FleetTunnel)
        except NotFoundError:
            return None
        return found

    async def scrape(self) -> Samples:
        def read() -> str:
            with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=60) as answer:
                return str(answer.read().decode())

        text = await asyncio.to_thread(read)
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def events(self, count: int) -> list[Any]:
        """The first messages on `warren.v1.event.metrics.>`, from the stream's beginning."""
        js = self.api.client.jetstream()
        reading = await js.pull_subscribe(
            f"{subjects.VERSION}.event.metrics.>", stream="EVENT", inbox_prefix=b"_INBOX.api."
        )
        seen: list[Any] = []
        async with asyncio.timeout(60):
            while len(seen) < count:
                with contextlib.suppress(NatsTimeout):
                    seen += await reading.fetch(count - len(seen), timeout=1)
        return seen


until = partial(eventually, ignoring=(UnavailableError, BusError, OSError), pause_s=0.05)


@pytest.fixture
def chosen_database(request: pytest.FixtureRequest) -> PostgresServer:
    """One server for all tests; its own for a test that stops it."""
    if "stops" in request.node.name:
        own: PostgresServer = request.getfixturevalue("own_database")
        return own
    shared: PostgresServer = request.getfixturevalue("database")
    shared.sql("DROP SCHEMA IF EXISTS metrics CASCADE")
    return shared


@pytest.fixture
async def world(
    bus: RealServer, agents: dict[str, Connection], chosen_database: PostgresServer, process: Any, connect: Any,
    environ_of: Any, ready: Any,
) -> World:  # fmt: skip
    port = free_port()
    environ = environ_of("metrics", chosen_database.dsn()) | {"WARREN_METRICS_PORT": str(port)}
    metrics = process("warren_metrics", environ)
    await metrics.start()
    api, policy = await connect("api"), await connect("policy")
    await ready(api, "metrics")
    return World(bus, chosen_database, metrics, api, policy, agents, port)


async def test_both_ends_of_a_tunnel_are_seen_and_counted(world: World) -> None:
    body = Presence(state="online", at=now(), agent=AgentState.WATCH, started_at=now(), version="1")
    traffic = TrafficStats(bytes_in=7, bytes_out=8)
    await world.say("gw1", "presence", body)
    await world.say("gw1", "tunnel", TunnelChange(at=now(), previous=None, status=up("gw1+hub-1", traffic=traffic)))
    await world.say("hub-1", "report", Report(at=now(), tunnels=(up("gw1+hub-1"),)))

    async def both() -> FleetTunnel | None:
        found = await world.tunnel("gw1+hub-1")
        return found if found is not None and len(found.ends) == 2 else None

    tunnel: FleetTunnel = await until(both)
    assert (tunnel.state, tunnel.peers, tunnel.stale) == (TunnelState.UP, ("gw1", "hub-1"), ())
    listed: TunnelList = await world.call("tunnels", ListTunnels(), TunnelList)
    assert listed.tunnels == (tunnel,)
    samples = await world.scrape()
    labels = (("peer", "gw1"), ("tunnel", "gw1+hub-1"))
    assert samples["warren_tunnel_up", labels] == 1
    assert samples["warren_tunnel_receive_bytes_total", labels] == 7
    assert samples["warren_peers_online", ()] == 2

    await world.say("gw1", "report", Report(at=now(), tunnels=()))
    await world.say("hub-1", "report", Report(at=now(), tunnels=()))

    async def gone() -> bool:
        return await world.tunnel("gw1+hub-1") is None

    await until(gone)
    assert not any(dict(found).get("tunnel") for _, found in await world.scrape())

    async def entries() -> list[tuple[str, str, bool]] | None:
        query = TunnelHistoryQuery(name="gw1+hub-1")
        try:
            found: TunnelHistory = await world.call("tunnel_history", query, TunnelHistory)
        except NotFoundError:  # nothing is stored yet
            return None
        states = [(it.peer, it.state.value, it.removed) for it in found.entries if isinstance(it, StateEntry)]
        return states if len(states) == 4 else None

    removed = [("hub-1", "down", True), ("gw1", "down", True)]
    assert await until(entries) == [*removed, ("hub-1", "up", False), ("gw1", "up", False)]
    assert (await world.call("fleet_at", FleetAtQuery(at=now()), FleetObserved)).tunnels == ()


async def test_a_revision_that_is_reported_again_is_one_entry_of_the_history(world: World) -> None:
    """After a change of the directory an agent applies the same revision again: an event each time."""

    def applied(revision: int, ok: bool = True) -> Applied:
        return Applied(at=now(), epoch=1, revision=revision, ok=ok, duration_ms=5, delivered_at=now())

    await world.say("gw1", "tunnel", TunnelChange(at=now(), previous=None, status=up("gw1+hub-1", peer="hub-1")))
    for body in (applied(3), applied(3), applied(4, ok=False), applied(4), applied(4)):
        await world.say("gw1", "applied", body)
    await world.say("hub-1", "applied", applied(4))

    async def entries() -> list[tuple[str, int, bool]] | None:
        try:
            found: TunnelHistory = await world.call(
                "tunnel_history", TunnelHistoryQuery(name="gw1+hub-1"), TunnelHistory
            )
        except NotFoundError:  # nothing is stored yet
            return None
        revisions = [(it.peer, it.revision, it.ok) for it in found.entries if isinstance(it, AppliedEntry)]
        return revisions if revisions[:1] == [("hub-1", 4, True)] else None

    assert await until(entries) == [("hub-1", 4, True), ("gw1", 4, True), ("gw1", 4, False), ("gw1", 3, True)]


async def test_events_are_published_once_with_the_trace_of_their_cause(world: World) -> None:
    await world.say("gw1", "tunnel", TunnelChange(at=now(), previous=None, status=up("t")))
    body = Applied(at=now(), epoch=1, revision=3, ok=True, duration_ms=5, delivered_at=now())
    await world.say("gw1", "applied", body)
    changed, applied = await world.events(2)
    assert (changed.subject, applied.subject) == (
        "warren.v1.event.metrics.tunnel.gw1",
        "warren.v1.event.metrics.applied.gw1",
    )
    changed_event = TunnelChanged.model_validate_json(changed.data)
    assert (changed_event.peer, changed_event.tunnel, changed_event.state, changed_event.previous) == (
        "gw1",
        "t",
        TunnelState.UP,
        None,
    )
    assert PolicyApplied.model_validate_json(applied.data).revision == 3
    assert changed.headers["ce-type"] == TunnelChanged.TYPE
    assert changed.headers["traceparent"].split("-")[1] != applied.headers["traceparent"].split("-")[1]


async def test_hostile_telemetry_is_counted_and_stops_nothing(world: World) -> None:
    client = world.agents["gw1"].client
    for payload in (b"", b"{", b"[" * 50_000, b'{"at":"2026-01-01T00:00:00Z","tunnels":[{"name":"a","state":"lost"}]}'):
        await client.publish(subjects.telemetry("gw1", "report"), payload)
    await world.say("gw1", "report", Report(at=now(), tunnels=(up("hub-1+hub-2"), up("mine"))))

    async def is_listed() -> FleetTunnel | None:
        return await world.tunnel("mine")

    await until(is_listed)
    samples = await world.scrape()
    assert samples["warren_telemetry_rejected_total", (("reason", "malformed"),)] == 4
    assert samples["warren_telemetry_rejected_total", (("reason", "foreign-tunnel"),)] == 1
    assert await world.tunnel("hub-1+hub-2") is None
    assert samples["warren_telemetry_dead_letters_total", ()] == 0


async def test_a_revoked_peer_leaves_with_its_tunnels(world: World, connect: Any) -> None:
    await world.say("gw1", "report", Report(at=now(), tunnels=(up("t"),)))

    async def is_listed() -> FleetTunnel | None:
        return await world.tunnel("t")

    await until(is_listed)
    registry = await connect("registry")
    events = EventPublisher(lambda: registry.client, "/services/registry")
    revoked = PeerRevoked(peer="gw1", actor="ann", at=now())
    await events.publish(subjects.event("registry", "revoked", "gw1"), PeerRevoked.TYPE, revoked)

    async def gone() -> bool:
        return await world.tunnel("t") is None

    await until(gone)
    assert not any(dict(found).get("peer") == "gw1" for _, found in await world.scrape())


async def test_a_killed_process_shows_the_last_known_state_when_it_is_back(world: World, ready: Any) -> None:
    await world.say("gw1", "report", Report(at=now(), tunnels=(up("kept"), up("also"))))

    async def saved() -> bool:
        count = await asyncio.to_thread(world.database.sql, "SELECT count(*) FROM metrics.tunnel")
        return count == "2"

    await until(saved)
    await world.process.end(signal.SIGKILL)
    await world.say("gw1", "report", Report(at=now(), tunnels=(up("kept"),)))  # published while no process consumes
    await world.process.start()
    await ready(world.api, "metrics")
    assert await world.tunnel("kept") is not None

    async def caught_up() -> bool:
        return await world.tunnel("also") is None

    # What the server had handed to the dead process, before it noticed, comes again after ACK_WAIT.
    await until(caught_up, limit_s=ACK_WAIT + 60.0)
    changes = [TunnelChanged.model_validate_json(message.data) for message in await world.events(3)]
    assert sorted((item.tunnel, item.removed) for item in changes) == [("also", False), ("also", True), ("kept", False)]


async def test_what_stops_is_named_and_picked_up_again_in_any_order(world: World) -> None:
    await asyncio.to_thread(world.database.stop)
    await world.say("gw1", "report", Report(at=now(), tunnels=(up("a"),)))

    async def is_listed(name: str) -> FleetTunnel | None:
        return await world.tunnel(name)

    await until(lambda: is_listed("a"))  # the service goes on without PostgreSQL
    health: Health = await world.call("health", Empty(), Health)
    assert (health.ready, health.dependencies["postgres"], health.dependencies["nats"]) == (False, False, True)
    await world.bus.kill()
    await asyncio.to_thread(world.database.start)
    await world.bus.start()

    async def well() -> bool:
        health: Health = await world.call("health", Empty(), Health)
        return health.ready

    await until(well)
    await until(lambda: _published(world, "b"))
    await until(lambda: is_listed("b"))

    async def saved() -> bool:
        rows = await asyncio.to_thread(world.database.sql, "SELECT name FROM metrics.tunnel ORDER BY name")
        return rows == "b"

    await until(saved)
    assert await world.process.end(signal.SIGTERM) == 0


async def _published(world: World, name: str) -> bool:
    await world.say("gw1", "report", Report(at=now(), tunnels=(up(name),)))
    return True


async def test_a_missing_setting_and_a_taken_port_are_named(
    bus: RealServer, world: World, process: Any, environ_of: Any
) -> None:
    environ = environ_of("metrics", world.database.dsn())
    taken = process("warren_metrics", environ | {"WARREN_METRICS_PORT": str(world.port)})
    await taken.start()
    assert await taken.wait() == 2
    assert "WARREN_METRICS_PORT" in taken.text()
    del environ["WARREN_POSTGRES_DSN"]
    missing = process("warren_metrics", environ)
    await missing.start()
    assert await missing.wait() == 2
    assert "WARREN_POSTGRES_DSN" in missing.text()
