"""`python -m warren_metrics` as a whole, on a real nats-server and a real PostgreSQL."""

import asyncio
import signal
from datetime import UTC, datetime
from functools import partial
from typing import Any

from warren_bus.errors import BusError
from warren_bus.publisher import EventPublisher
from warren_contracts import subjects
from warren_contracts.commands import Empty, Health, ListTunnels, TunnelList
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
from warren_testkit.bus import RealServer
from warren_testkit.metrics_process import MetricsProcess, Samples
from warren_testkit.waiting import eventually


def now() -> datetime:
    return datetime.now(UTC)


def up(name: str, **fields: Any) -> TunnelStatus:
    return TunnelStatus(name=name, state=TunnelState.UP, **fields)


until = partial(eventually, ignoring=(UnavailableError, BusError, OSError), pause_s=0.05)


async def test_both_ends_of_a_tunnel_are_seen_and_counted(metrics: MetricsProcess) -> None:
    body = Presence(state="online", at=now(), agent=AgentState.WATCH, started_at=now(), version="1")
    traffic = TrafficStats(bytes_in=7, bytes_out=8)
    await metrics.say("gw1", "presence", body)
    await metrics.say("gw1", "tunnel", TunnelChange(at=now(), previous=None, status=up("gw1+hub-1", traffic=traffic)))
    await metrics.say("hub-1", "report", Report(at=now(), tunnels=(up("gw1+hub-1"),)))

    async def both() -> FleetTunnel | None:
        found = await metrics.tunnel("gw1+hub-1")
        return found if found is not None and len(found.ends) == 2 else None

    tunnel: FleetTunnel = await until(both)
    assert (tunnel.state, tunnel.peers, tunnel.stale) == (TunnelState.UP, ("gw1", "hub-1"), ())
    listed: TunnelList = await metrics.call("tunnels", ListTunnels(), TunnelList)
    assert listed.tunnels == (tunnel,)

    async def both_online() -> Samples | None:
        found = await metrics.scrape()
        return found if found["warren_peers_online", ()] == 2 else None

    samples: Samples = await until(both_online)
    labels = (("peer", "gw1"), ("tunnel", "gw1+hub-1"))
    assert samples["warren_tunnel_up", labels] == 1
    assert samples["warren_tunnel_receive_bytes_total", labels] == 7

    await metrics.say("gw1", "report", Report(at=now(), tunnels=()))
    await metrics.say("hub-1", "report", Report(at=now(), tunnels=()))

    async def gone() -> bool:
        return await metrics.tunnel("gw1+hub-1") is None

    await until(gone)
    assert not any(dict(found).get("tunnel") for _, found in await metrics.scrape())

    async def entries() -> list[tuple[str, str, bool]] | None:
        query = TunnelHistoryQuery(name="gw1+hub-1")
        try:
            found: TunnelHistory = await metrics.call("tunnel_history", query, TunnelHistory)
        except NotFoundError:  # nothing is stored yet
            return None
        states = [(it.peer, it.state.value, it.removed) for it in found.entries if isinstance(it, StateEntry)]
        return states if len(states) == 4 else None

    removed = [("hub-1", "down", True), ("gw1", "down", True)]
    assert await until(entries) == [*removed, ("hub-1", "up", False), ("gw1", "up", False)]
    assert (await metrics.call("fleet_at", FleetAtQuery(at=now()), FleetObserved)).tunnels == ()


async def test_a_revision_that_is_reported_again_is_one_entry_of_the_history(metrics: MetricsProcess) -> None:
    """After a change of the directory an agent applies the same revision again: an event each time."""

    def applied(revision: int, ok: bool = True) -> Applied:
        return Applied(at=now(), epoch=1, revision=revision, ok=ok, duration_ms=5, delivered_at=now())

    await metrics.say("gw1", "tunnel", TunnelChange(at=now(), previous=None, status=up("gw1+hub-1", peer="hub-1")))
    for body in (applied(3), applied(3), applied(4, ok=False), applied(4), applied(4)):
        await metrics.say("gw1", "applied", body)
    await metrics.say("hub-1", "applied", applied(4))

    async def entries() -> list[tuple[str, int, bool]] | None:
        try:
            found: TunnelHistory = await metrics.call(
                "tunnel_history", TunnelHistoryQuery(name="gw1+hub-1"), TunnelHistory
            )
        except NotFoundError:  # nothing is stored yet
            return None
        revisions = [(it.peer, it.revision, it.ok) for it in found.entries if isinstance(it, AppliedEntry)]
        # What was not acknowledged in time comes again after ACK_WAIT, later than what was published after it.
        whole = [("hub-1", 4, True), ("gw1", 4, True), ("gw1", 4, False), ("gw1", 3, True)]
        return revisions if revisions == whole else None

    await until(entries, limit_s=ACK_WAIT + 60.0)


async def test_events_are_published_once_with_the_trace_of_their_cause(metrics: MetricsProcess) -> None:
    await metrics.say("gw1", "tunnel", TunnelChange(at=now(), previous=None, status=up("t")))
    body = Applied(at=now(), epoch=1, revision=3, ok=True, duration_ms=5, delivered_at=now())
    await metrics.say("gw1", "applied", body)
    applied, changed = sorted(await metrics.events(2), key=lambda message: str(message.subject))
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


async def test_hostile_telemetry_is_counted_and_stops_nothing(metrics: MetricsProcess) -> None:
    client = metrics.agents["gw1"].client
    for payload in (b"", b"{", b"[" * 50_000, b'{"at":"2026-01-01T00:00:00Z","tunnels":[{"name":"a","state":"lost"}]}'):
        await client.publish(subjects.telemetry("gw1", "report"), payload)
    await metrics.say("gw1", "report", Report(at=now(), tunnels=(up("hub-1+hub-2"), up("mine"))))

    async def is_listed() -> FleetTunnel | None:
        return await metrics.tunnel("mine")

    async def all_counted() -> Samples | None:
        samples = await metrics.scrape()
        counted = [
            samples.get(("warren_telemetry_rejected_total", (("reason", reason),)))
            for reason in ("malformed", "foreign-tunnel")
        ]
        return samples if counted == [4, 1] else None

    await until(is_listed)
    samples: Samples = await until(all_counted, limit_s=ACK_WAIT + 60.0)
    assert await metrics.tunnel("hub-1+hub-2") is None
    assert samples["warren_telemetry_dead_letters_total", ()] == 0


async def test_a_revoked_peer_leaves_with_its_tunnels(metrics: MetricsProcess, connect: Any) -> None:
    await metrics.say("gw1", "report", Report(at=now(), tunnels=(up("t"),)))

    async def is_listed() -> FleetTunnel | None:
        return await metrics.tunnel("t")

    await until(is_listed)
    registry = await connect("registry")
    events = EventPublisher(lambda: registry.client, "/services/registry")
    revoked = PeerRevoked(peer="gw1", actor="ann", at=now())
    await events.publish(subjects.event("registry", "revoked", "gw1"), PeerRevoked.TYPE, revoked)

    async def gone() -> bool:
        return await metrics.tunnel("t") is None

    await until(gone)
    assert not any(dict(found).get("peer") == "gw1" for _, found in await metrics.scrape())


async def test_a_killed_process_shows_the_last_known_state_when_it_is_back(metrics: MetricsProcess, ready: Any) -> None:
    await metrics.say("gw1", "report", Report(at=now(), tunnels=(up("kept"), up("also"))))

    async def saved() -> bool:
        count = await asyncio.to_thread(metrics.database.sql, "SELECT count(*) FROM metrics.tunnel")
        return count == "2"

    await until(saved)
    await metrics.process.end(signal.SIGKILL)
    await metrics.say("gw1", "report", Report(at=now(), tunnels=(up("kept"),)))  # published while no process consumes
    await metrics.process.start()
    await ready(metrics.api, "metrics")
    assert await metrics.tunnel("kept") is not None

    async def caught_up() -> bool:
        return await metrics.tunnel("also") is None

    # What the server had handed to the dead process, before it noticed, comes again after ACK_WAIT.
    await until(caught_up, limit_s=ACK_WAIT + 60.0)
    changes = [TunnelChanged.model_validate_json(message.data) for message in await metrics.events(3)]
    assert sorted((item.tunnel, item.removed) for item in changes) == [("also", False), ("also", True), ("kept", False)]


async def test_what_stops_is_named_and_picked_up_again_in_any_order(metrics: MetricsProcess) -> None:
    await asyncio.to_thread(metrics.database.stop)
    await metrics.say("gw1", "report", Report(at=now(), tunnels=(up("a"),)))

    async def is_listed(name: str) -> FleetTunnel | None:
        return await metrics.tunnel(name)

    await until(lambda: is_listed("a"))  # the service goes on without PostgreSQL
    health: Health = await metrics.call("health", Empty(), Health)
    assert (health.ready, health.dependencies["postgres"], health.dependencies["nats"]) == (False, False, True)
    await metrics.bus.kill()
    await asyncio.to_thread(metrics.database.start)
    await metrics.bus.start()

    async def well() -> bool:
        health: Health = await metrics.call("health", Empty(), Health)
        return health.ready

    await until(well)
    await until(lambda: _published(metrics, "b"))
    await until(lambda: is_listed("b"))

    async def saved() -> bool:
        rows = await asyncio.to_thread(metrics.database.sql, "SELECT name FROM metrics.tunnel ORDER BY name")
        return rows == "b"

    await until(saved)
    assert await metrics.process.end(signal.SIGTERM) == 0


async def _published(metrics: MetricsProcess, name: str) -> bool:
    await metrics.say("gw1", "report", Report(at=now(), tunnels=(up(name),)))
    return True


async def test_a_missing_setting_and_a_taken_port_are_named(
    bus: RealServer, metrics: MetricsProcess, process: Any, environ_of: Any
) -> None:
    environ = environ_of("metrics", metrics.database.dsn())
    taken = process("warren_metrics", environ | {"WARREN_METRICS_PORT": str(metrics.port)})
    await taken.start()
    assert await taken.wait() == 2
    assert "WARREN_METRICS_PORT" in taken.text()
    del environ["WARREN_POSTGRES_DSN"]
    missing = process("warren_metrics", environ)
    await missing.start()
    assert await missing.wait() == 2
    assert "WARREN_POSTGRES_DSN" in missing.text()
