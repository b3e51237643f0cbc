"""Telemetry that is malformed, repeated, in another order, from a wrong clock, or begins again, to a real metrics service.

The result is that of the same reports in order, or a count of what was refused, and nothing outdated is shown as live.
"""

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import asyncpg
import pytest

from warren_api.live.model import LiveModel
from warren_bus.errors import BusError
from warren_contracts import subjects
from warren_contracts.base import Document, read
from warren_contracts.events import EVENTS, PeerEnrolled, PresenceChanged
from warren_contracts.peers import PresenceState
from warren_contracts.problems import NotFoundError, UnavailableError
from warren_contracts.status import ChildSaStatus, FleetTunnel, IpsecStatus, TrafficStats, TunnelState, TunnelStatus
from warren_contracts.telemetry import AgentState, Applied, Presence, Report, TunnelChange
from warren_contracts.tunnel_history import (
    StateEntry,
    TunnelCounters,
    TunnelCountersQuery,
    TunnelHistory,
    TunnelHistoryQuery,
)
from warren_testkit.metrics_process import MetricsProcess
from warren_testkit.waiting import eventually

until = partial(eventually, ignoring=(UnavailableError, BusError, OSError), pause_s=0.05)

NAME, LABELS = "gw1+hub-1", (("peer", "gw1"), ("tunnel", "gw1+hub-1"))
RECEIVED = ("warren_tunnel_receive_bytes_total", LABELS)
HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


def status(state: str = "up", received: int = 0, **fields: Any) -> TunnelStatus:
    traffic = TrafficStats(bytes_in=received)
    return TunnelStatus(name=NAME, state=TunnelState(state), peer="hub-1", traffic=traffic, **fields)


def report(*tunnels: TunnelStatus, at: datetime | None = None, **fields: Any) -> Report:
    return Report(at=at or now(), tunnels=tunnels, **fields)


def beat(at: datetime) -> Presence:
    return Presence(state="online", at=at, agent=AgentState.WATCH, started_at=at, version="1")


async def publish(metrics: MetricsProcess, kind: str, body: Document | bytes, message_id: str = "") -> None:
    """As an agent does, with an id of the message's own, or with one that was used before."""
    payload = body if isinstance(body, bytes) else body.model_dump_json().encode()
    headers = {"Nats-Msg-Id": message_id or str(uuid.uuid4())}
    await metrics.agents["gw1"].client.jetstream().publish(subjects.telemetry("gw1", kind), payload, headers=headers)


async def shows(metrics: MetricsProcess, sample: Any, value: float | None) -> None:
    """Wait until a sample has this value; None: it is absent."""

    async def is_shown() -> bool:
        return (await metrics.scrape()).get(sample) == value

    await until(is_shown)


async def states(metrics: MetricsProcess, count: int) -> list[StateEntry]:
    """The newest states of the history, once there are so many."""

    async def found() -> list[StateEntry] | None:
        try:
            query = TunnelHistoryQuery(name=NAME)
            history: TunnelHistory = await metrics.call("tunnel_history", query, TunnelHistory)
        except NotFoundError:  # nothing is stored yet
            return None
        entries = [it for it in history.entries if isinstance(it, StateEntry)]
        return entries if len(entries) >= count else None

    return list(await until(found))


async def listed(metrics: MetricsProcess) -> FleetTunnel:
    found = await metrics.tunnel(NAME)
    assert found is not None
    return found


async def live_states(metrics: MetricsProcess, count: int) -> list[str]:
    """What the live view of an API server shows of the tunnel after each event of the metrics service, while its peer is online."""
    model, types = LiveModel(), {event.TYPE: event for event in EVENTS}
    model.apply(PeerEnrolled(peer="gw1", tags=(), at=now()), 1)
    model.apply(PresenceChanged(peer="gw1", state=PresenceState.ONLINE, at=now()), 2)
    shown = []
    for cursor, message in enumerate(await metrics.events(count), 3):
        model.apply(read(types[message.headers["ce-type"]], message.data), cursor)
        row = model.tunnels.get(NAME)
        shown.append("" if row is None else row.value.state.value)
    return shown


async def test_what_is_repeated_with_its_id_or_another_one_changes_nothing(metrics: MetricsProcess) -> None:
    change = TunnelChange(at=now(), previous=None, status=status(received=700, since=now()))
    for message_id in ("first", "first", "second", "third"):
        await publish(metrics, "tunnel", change, message_id)
    for message_id in ("report", "report", "report-again"):
        await publish(metrics, "report", report(status(received=700, since=change.status.since)), message_id)
    await shows(metrics, RECEIVED, 700)
    await publish(metrics, "tunnel", TunnelChange(at=now(), previous=TunnelState.UP, status=status("down", 700)))
    assert [it.state.value for it in await states(metrics, 2)] == ["down", "up"]
    counters: TunnelCounters = await metrics.call("tunnel_counters", TunnelCountersQuery(name=NAME), TunnelCounters)
    assert sum(it or 0 for it in counters.ends["gw1"].bytes_in) == 0  # none came after the first report


async def test_the_parts_of_a_report_in_another_order_are_that_report(metrics: MetricsProcess) -> None:
    others = [TunnelStatus(name=f"t-{n}", state=TunnelState.UP) for n in range(3)]
    await publish(metrics, "report", report(status(), *others))
    at = now()
    for part in (2, 0, 2, 1):
        tunnels = (status("down"), *others)[part : part + 1]
        await publish(metrics, "report", report(*tunnels, at=at, part=part, parts=3))

    async def is_complete() -> bool:  # the tunnel of no part is gone, and only that
        names = [name for name in (NAME, "t-0", "t-1", "t-2") if await metrics.tunnel(name) is not None]
        return names == [NAME, "t-0", "t-1"]

    await until(is_complete)
    assert (await listed(metrics)).state is TunnelState.DOWN
    assert [it.state.value for it in await states(metrics, 2)] == ["down", "up"]


@pytest.mark.parametrize("off", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_an_agent_whose_clock_is_an_hour_off_is_shown_by_the_clock_of_the_bus(
    metrics: MetricsProcess, off: timedelta
) -> None:
    begun = now()
    for state in ("up", "down", "up"):
        at = now() + off
        await publish(metrics, "presence", beat(at))
        await publish(metrics, "tunnel", TunnelChange(at=at, previous=None, status=status(state, since=at)))
    await publish(metrics, "report", report(status(received=5, since=now() + off), at=now() + off))
    entries = await states(metrics, 3)
    assert [it.state.value for it in entries] == ["up", "down", "up"]
    assert all(begun - timedelta(seconds=5) <= it.at <= now() + timedelta(seconds=5) for it in entries)
    await shows(metrics, RECEIVED, 5)
    samples = await metrics.scrape()
    skew = samples["warren_peer_clock_skew_seconds", (("peer", "gw1"),)]
    assert abs(skew - off.total_seconds()) < 30
    assert samples["warren_tunnel_up", LABELS] == 1
    found = await listed(metrics)
    assert (found.state, found.stale) == (TunnelState.UP, ())
    assert begun - timedelta(seconds=5) <= found.reported_at["gw1"] <= now() + timedelta(seconds=5)


async def test_a_clock_that_is_set_back_hides_no_later_report(metrics: MetricsProcess) -> None:
    await publish(metrics, "report", report(status(received=1), at=now() + HOUR))
    await publish(metrics, "report", report(status("down", 2), at=now()))
    await shows(metrics, RECEIVED, 2)
    assert (await listed(metrics)).state is TunnelState.DOWN


async def test_a_spool_of_two_minutes_that_arrives_at_once_is_history_and_not_live(metrics: MetricsProcess) -> None:
    """As after an outage of the bus: heartbeats first, then what the agent had to store, then its next report."""
    online = ("warren_peer_online", (("peer", "gw1"),))
    made = {seconds: now() - timedelta(seconds=seconds) for seconds in (120, 90, 60, 45)}
    await publish(metrics, "presence", beat(now()))
    await shows(metrics, online, 1)
    for seconds, state, received in ((120, "up", 100), (90, "down", 200), (60, "up", 300)):
        stored = status(state, received, since=made[seconds])
        await publish(metrics, "tunnel", TunnelChange(at=made[seconds], previous=None, status=stored))
    await publish(metrics, "report", report(status(received=400, since=made[60]), at=made[45]))
    await shows(metrics, RECEIVED, 400)
    samples = await metrics.scrape()
    assert (samples[online], samples["warren_tunnel_stale", LABELS]) == (1, 1)
    assert ("warren_tunnel_up", LABELS) not in samples
    found = await listed(metrics)
    assert (found.state, found.stale, found.outdated) == (TunnelState.UNKNOWN, ("gw1",), ("gw1",))
    assert abs(found.reported_at["gw1"] - made[45]) < timedelta(seconds=5)
    entries = await states(metrics, 3)
    assert [it.state.value for it in entries] == ["up", "down", "up"]
    for entry, seconds in zip(entries, (60, 90, 120), strict=True):
        assert abs(entry.at - made[seconds]) < timedelta(seconds=5)
    await publish(metrics, "report", report(status("down", 500)))
    await shows(metrics, RECEIVED, 500)
    samples = await metrics.scrape()
    assert (samples["warren_tunnel_stale", LABELS], samples["warren_tunnel_up", LABELS]) == (0, 0)
    found = await listed(metrics)
    assert (found.state, found.stale, found.outdated) == (TunnelState.DOWN, (), ())
    assert now() - found.reported_at["gw1"] < timedelta(seconds=30)
    assert [it.state.value for it in await states(metrics, 4)] == ["down", "up", "down", "up"]
    assert await live_states(metrics, 6) == ["", "unknown", "unknown", "unknown", "down", "down"]


async def test_counters_that_begin_again_are_a_reset_and_a_replaced_sa_is_none(metrics: MetricsProcess) -> None:
    def with_sa(number: int, received: int) -> TunnelStatus:
        sa = ChildSaStatus(spi_in=f"{number:08x}", spi_out=f"{number + 1:08x}", cipher="aes256gcm16")
        return status(received=received, link=IpsecStatus(children=(sa,)))

    steps = [with_sa(1, 1_000), with_sa(3, 1_200), with_sa(5, 50), with_sa(7, 60)]  # replaced, restarted, replaced
    for step in steps:
        await publish(metrics, "report", report(step))
        await shows(metrics, RECEIVED, step.traffic.bytes_in)
    counters: TunnelCounters = await metrics.call("tunnel_counters", TunnelCountersQuery(name=NAME), TunnelCounters)
    assert sum(it or 0 for it in counters.ends["gw1"].bytes_in) == 200 + 50 + 10


NO_ZONE = b'"2026-01-02T03:04:05"'
HOSTILE = {
    "malformed": [
        b"", b"\xff", b"[" * 60_000, b'{"tunnels":5}', b'{"at":"2026-01-02T03:04:05Z","tunnels":[{"name":"a","state":"lost"}]}',
        b'{"at":"0000-01-01T00:00:00Z","tunnels":[]}',
    ],
    "out-of-bounds": [
        b'{"at":%s,"tunnels":[]}' % NO_ZONE,
        b'{"at":"2026-01-02T03:04:05Z","tunnels":[{"name":"a","state":"up","since":%s}]}' % NO_ZONE,
        b'{"at":"2026-01-02T03:04:05Z","tunnels":[],"part":9,"parts":2}',
        b'{"at":"2026-01-02T03:04:05Z","tunnels":[{"name":"a","state":"up","rekeys":9223372036854775808}]}',
    ],
}  # fmt: skip


async def test_what_is_refused_is_counted_and_takes_nothing_of_others_with_it(metrics: MetricsProcess) -> None:
    """One batch: what an honest peer sends between hostile reports is shown, and no message is delivered twice."""
    client = metrics.agents["gw1"].client
    for payloads in HOSTILE.values():
        for payload in payloads:
            await client.publish(subjects.telemetry("gw1", "report"), payload)
    no_zone = b'{"at":"2026-01-02T03:04:05Z","previous":null,"status":{"name":"a","state":"up","since":%s}}' % NO_ZONE
    await client.publish(subjects.telemetry("gw1", "tunnel"), no_zone)
    await metrics.say("hub-1", "report", report(TunnelStatus(name=NAME, state=TunnelState.UP, peer="gw1")))
    await until(partial(metrics.tunnel, NAME))
    await shows(metrics, ("warren_telemetry_rejected_total", (("reason", "malformed"),)), len(HOSTILE["malformed"]))
    samples = await metrics.scrape()
    refused = len(HOSTILE["out-of-bounds"]) + 1
    assert samples["warren_telemetry_rejected_total", (("reason", "out-of-bounds"),)] == refused
    assert samples["warren_telemetry_dead_letters_total", ()] == 0
    assert await metrics.tunnel("a") is None


@pytest.mark.parametrize("year", [1, 9_999])
async def test_times_at_the_ends_of_the_calendar_are_shown_and_stop_nothing(metrics: MetricsProcess, year: int) -> None:
    at = datetime(year, 12, 31, 23, 59, tzinfo=UTC)
    await publish(metrics, "presence", beat(at))
    await publish(metrics, "tunnel", TunnelChange(at=at, previous=None, first_packet_at=at, status=status(since=at)))
    applied = Applied(at=at, epoch=1, revision=3, ok=True, duration_ms=5, delivered_at=at)
    await publish(metrics, "applied", applied)
    await publish(metrics, "report", report(status(received=9, since=at), at=at))
    await shows(metrics, RECEIVED, 9)
    assert (await listed(metrics)).state is TunnelState.UP
    assert [it.state.value for it in await states(metrics, 1)] == ["up"]
    assert (await metrics.scrape())["warren_telemetry_dead_letters_total", ()] == 0


@contextlib.asynccontextmanager
async def locked(dsn: str, table: str) -> AsyncIterator[None]:
    """Nobody else writes to the table."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def test_no_counter_goes_down_when_the_service_is_killed_before_it_stores_it(
    metrics: MetricsProcess, ready: Any
) -> None:
    """To Prometheus a lower value is a reset, after which it counts the whole total again."""
    await publish(metrics, "report", report(status(received=1_000)))

    async def is_stored() -> bool:
        rows = await asyncio.to_thread(metrics.database.sql, "SELECT view FROM metrics.tunnel")
        return "1000" in rows

    await until(is_stored)
    async with locked(metrics.database.dsn(), "metrics.tunnel"):
        await publish(metrics, "report", report(status(received=2_000)))
        await shows(metrics, RECEIVED, 2_000)
        await metrics.process.end(signal.SIGKILL)
    await metrics.process.start()
    await ready(metrics.api, "metrics")
    samples = await metrics.scrape()
    assert samples["warren_tunnel_up", LABELS] == 1
    assert RECEIVED not in samples  # not known, rather than 1,000
    await publish(metrics, "report", report(status(received=2_500)))
    await shows(metrics, RECEIVED, 2_500)
