"""Reports that arrive late: history has them at their time, and nothing of them is shown as live."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from warren_contracts.base import Document
from warren_contracts.events import ReportingChanged, TunnelChanged
from warren_contracts.explanation import Cause
from warren_contracts.status import FleetTunnel, TrafficStats, TunnelState, TunnelStatus
from warren_contracts.telemetry import AgentState, Presence, Report, TunnelChange
from warren_metrics.counters import IngestCounters
from warren_metrics.domain.changes import Changes
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.flood import BURST
from warren_metrics.domain.lateness import STALE_AFTER, report_time
from warren_metrics.domain.peers import PeerView
from warren_metrics.domain.recent_counters import RecentCounters
from warren_metrics.domain.views import fleet_tunnel, observed_states
from warren_metrics.ingest import Ingest, Raw
from warren_metrics.memory import StateWriter
from warren_testkit.examples import examples
from warren_testkit.metrics import (
    START,
    MemoryEvents,
    MemoryFleet,
    observed,
    place,
    sample_of,
    scraper_of,
    status,
)

UP, DOWN, UNKNOWN = TunnelState.UP, TunnelState.DOWN, TunnelState.UNKNOWN
HOUR = 3_600.0


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Agent:
    """An agent `gw1`, whose clock is ahead by `skew` seconds; times are those of the bus, in seconds."""

    def __init__(self, skew: float = 0) -> None:
        self.fleet = FleetTelemetry()
        self.skew = skew
        self.sequence = 0
        self.now = 0.0

    def sends(self, kind: str, body: Document, stored: float) -> Changes:
        self.sequence += 1
        self.now = max(self.now, stored)
        return self.fleet.observe(observed("gw1", kind, body, place(self.sequence, stored)))

    def beats(self, stored: float) -> Changes:
        body = Presence(state="online", at=after(stored + self.skew), agent=AgentState.WATCH, started_at=START)
        return self.sends("presence", body, stored)

    def reports(self, *tunnels: TunnelStatus, stored: float, made: float | None = None) -> Changes:
        body = Report(at=after((stored if made is None else made) + self.skew), tunnels=tunnels)
        return self.sends("report", body, stored)

    def changes(self, tunnel: TunnelStatus, *, stored: float, made: float | None = None) -> Changes:
        at = after((stored if made is None else made) + self.skew)
        return self.sends("tunnel", TunnelChange(at=at, previous=None, status=tunnel), stored)

    def shown(self, name: str = "t") -> FleetTunnel:
        found = fleet_tunnel(self.fleet, name, after(self.now))
        assert found is not None
        return found

    def age(self, name: str = "t") -> float:
        return (after(self.now) - self.shown(name).reported_at["gw1"]).total_seconds()


def reporting(*changes: Changes) -> list[datetime | None]:
    """What the events name as outdated."""
    return [it.outdated_until for of in changes for it in of.events if isinstance(it, ReportingChanged)]


def transitions(*changes: Changes) -> list[tuple[str, datetime, Cause | None]]:
    return [(it.state.value, it.at, it.cause) for of in changes for it in of.events if isinstance(it, TunnelChanged)]


@pytest.mark.parametrize("skew", [0.0, HOUR, -HOUR], ids=["right", "ahead", "behind"])
def test_what_an_agent_had_to_store_is_history_until_a_current_report(skew: float) -> None:
    agent = Agent(skew)
    agent.beats(0)
    agent.reports(status("t", "up"), stored=0)
    assert (agent.shown().state, agent.shown().stale) == (UP, ())
    found = [agent.beats(120), agent.changes(status("t", "down"), stored=121, made=20)]
    found += [agent.changes(status("t", "up"), stored=121, made=40), agent.reports(status("t"), stored=122, made=60)]
    tunnel = agent.shown()
    assert (tunnel.state, tunnel.stale, tunnel.outdated, agent.age()) == (UNKNOWN, ("gw1",), ("gw1",), 122 - 60)
    assert tunnel.ends["gw1"].state is UP
    assert observed_states(agent.fleet, ["t"], after(122))["t"].state is UNKNOWN
    assert transitions(*found) == [("down", after(20), None), ("up", after(40), None)]
    assert reporting(*found) == [after(120)]
    current = agent.reports(status("t", "down"), stored=130)
    assert [it[:2] for it in transitions(current)] == [("down", after(130))]
    assert reporting(current) == [None]
    tunnel = agent.shown()
    assert (tunnel.state, tunnel.stale, tunnel.outdated, agent.age()) == (DOWN, (), (), 0)


def test_a_heartbeat_after_a_silence_does_not_make_the_last_report_current() -> None:
    agent = Agent()
    agent.reports(status("t"), stored=0)
    assert reporting(agent.beats(29)) == []
    assert agent.shown().stale == ()
    assert reporting(agent.beats(59)) == [after(59)]
    assert (agent.shown().state, agent.shown().outdated, agent.age()) == (UNKNOWN, ("gw1",), 59)
    assert reporting(agent.reports(status("t"), stored=60)) == [None]
    assert (agent.shown().state, agent.shown().stale) == (UP, ())


def test_old_reports_are_late_although_heartbeats_never_stopped() -> None:
    agent = Agent()
    agent.reports(status("t"), stored=0)
    for second in range(0, 101, 10):
        agent.beats(second)
    found = [agent.reports(status("t"), stored=101 + n, made=20 + n) for n in range(3)]
    assert (agent.shown().state, agent.age()) == (UNKNOWN, 103 - 22)
    assert len(reporting(*found)) == 1
    found = [agent.reports(status("t"), stored=130, made=101.5)]  # less than half a minute old
    assert (agent.shown().state, reporting(*found)) == (UP, [None])


def test_a_change_that_is_current_is_shown_next_to_others_that_are_not() -> None:
    agent = Agent()
    agent.reports(status("t"), status("u"), stored=0)
    agent.beats(100)
    agent.reports(status("t"), status("u"), stored=100, made=50)
    agent.changes(status("t", "down"), stored=101)
    assert (agent.shown("t").state, agent.shown("t").stale) == (DOWN, ())
    assert (agent.shown("u").state, agent.shown("u").stale) == (UNKNOWN, ("gw1",))


def test_of_a_report_in_parts_the_last_one_confirms_the_peer() -> None:
    agent = Agent()
    agent.reports(status("t"), status("u"), stored=0)
    agent.beats(100)
    for part, name in enumerate("tu"):
        body = Report(at=after(101), part=part, parts=2, tunnels=(status(name),))
        assert reporting(agent.sends("report", body, 101)) == ([] if part == 0 else [None])
    assert [agent.shown(name).stale for name in "tu"] == [(), ()]


@pytest.mark.parametrize("off", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_while_nothing_is_known_of_a_clock_that_is_off_its_reports_are_not_current(off: float) -> None:
    agent = Agent(off)
    found = [agent.reports(status("t"), stored=0)]
    assert (agent.shown().state, agent.shown().stale) == (UNKNOWN, ("gw1",))
    assert transitions(*found)[0][:2] == ("up", after(0))  # history has the time of the bus
    agent.beats(5)
    assert agent.shown().state is UNKNOWN
    agent.reports(status("t"), stored=10)
    assert agent.shown().state is UP


@pytest.mark.parametrize("off", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_a_clock_that_is_set_hides_reports_until_the_next_heartbeat_at_most(off: float) -> None:
    agent = Agent(off)
    agent.beats(0)
    agent.skew = 0
    agent.reports(status("t"), stored=1)
    agent.beats(10)
    agent.reports(status("t"), stored=11)
    assert (agent.shown().state, agent.shown().stale) == (UP, ())


def test_what_was_made_before_a_clock_was_set_right_is_not_current() -> None:
    agent = Agent(-HOUR)
    agent.beats(0)
    agent.skew = 0
    agent.reports(status("t"), stored=120, made=0)  # by the skew of the last heartbeat it comes from the future
    assert agent.shown().state is UNKNOWN


def test_a_report_that_waited_in_the_stream_is_late_with_its_time() -> None:
    """After an interruption this service reads heartbeats of now, and reports of before."""
    agent = Agent()
    agent.reports(status("t"), stored=0)
    agent.beats(300)
    found = [agent.reports(status("t", "down"), stored=100), agent.reports(status("t", "up"), stored=200)]
    assert [it[:2] for it in transitions(*found)] == [("down", after(100)), ("up", after(200))]
    assert (agent.shown().state, agent.age()) == (UNKNOWN, 100)
    agent.reports(status("t"), stored=301)
    assert (agent.shown().state, agent.shown().stale) == (UP, ())


def test_a_peer_cannot_place_a_report_before_its_earlier_ones() -> None:
    agent = Agent()
    agent.beats(0)
    agent.changes(status("t", "down"), stored=10)
    found = agent.changes(status("t", "up"), stored=100, made=-HOUR)
    assert transitions(found) == [("up", after(10), None)]
    assert agent.shown().state is UNKNOWN


def test_a_change_that_is_delivered_again_has_the_same_time() -> None:
    agent = Agent()
    agent.beats(0)
    agent.reports(stored=1)
    agent.changes(status("t", "down"), stored=100, made=50)
    agent.reports(status("t"), stored=101)
    body = TunnelChange(at=after(50), previous=None, status=status("t", "down"))
    again = agent.fleet.observe(observed("gw1", "tunnel", body, place(3, 100)))
    assert transitions(again) == [("down", after(50), None)]
    assert (agent.shown().state, agent.age()) == (UP, 0)


def test_while_the_events_of_a_peer_are_suppressed_it_is_not_confirmed() -> None:
    """Who follows the events would wait for the confirmation forever."""
    agent = Agent()
    agent.reports(status("t"), stored=0)
    agent.beats(100)
    for number in range(int(BURST) + 1):
        agent.changes(status("u", "up" if number % 2 else "down"), stored=100)
    assert reporting(agent.reports(status("t"), status("u"), stored=100)) == []
    assert agent.fleet.peers["gw1"].outdated_until == after(100)
    assert reporting(agent.reports(status("t"), status("u"), stored=110)) == [None]


async def test_the_exposition_has_counters_and_no_state_until_a_current_report() -> None:
    agent = Agent()
    scraper = scraper_of(CollectorRegistry(), agent.fleet, lambda: after(agent.now))

    async def shown(tunnel: str) -> list[float | None]:
        names = ("warren_tunnel_up", "warren_tunnel_stale", "warren_tunnel_receive_bytes_total")
        return [await sample_of(scraper, name, tunnel=tunnel, peer="gw1") for name in names]

    def tunnels(received: int) -> list[TunnelStatus]:
        return [status(name, traffic=TrafficStats(bytes_in=received)) for name in "tu"]

    agent.reports(*tunnels(1), stored=0)
    assert await shown("t") == [1, 0, 1]
    agent.beats(100)
    assert [await shown(name) for name in "tu"] == [[None, 1, 1], [None, 1, 1]]
    agent.reports(*tunnels(2), stored=100, made=50)
    assert [await shown(name) for name in "tu"] == [[None, 1, 2], [None, 1, 2]]
    agent.changes(tunnels(3)[0], stored=101)
    assert [await shown(name) for name in "tu"] == [[1, 0, 3], [None, 1, 2]]
    agent.reports(*tunnels(4), stored=110)
    assert [await shown(name) for name in "tu"] == [[1, 0, 4], [1, 0, 4]]


def test_a_restart_of_the_service_confirms_nothing() -> None:
    agent = Agent()
    agent.reports(status("t"), stored=0)
    agent.beats(100)
    agent.reports(status("t"), stored=100, made=50)
    peers = {peer: PeerView.model_validate_json(it.model_dump_json()) for peer, it in agent.fleet.peers.items()}
    view = agent.fleet.tunnel(("gw1", "t"))
    assert view is not None
    agent.fleet = FleetTelemetry()
    agent.fleet.restore(peers, {("gw1", "t"): view})
    assert (agent.shown().state, agent.age()) == (UNKNOWN, 50)
    assert reporting(agent.reports(status("t"), stored=105)) == [None]
    assert agent.shown().state is UP


async def test_the_traffic_of_late_reports_is_in_its_own_minutes() -> None:
    fleet, recent = FleetTelemetry(), RecentCounters()
    memory = StateWriter(fleet, MemoryFleet(), now=lambda: START)
    ingest = Ingest(fleet, memory, MemoryEvents(), IngestCounters(CollectorRegistry()), recent=recent)
    times = [(0, 0, 10), (300, 90, 20), (300, 150, 50), (300, 300, 60)]  # stored, made, bytes

    def raw(number: int, stored: float, made: float, received: int) -> Raw:
        body = Report(at=after(made), tunnels=(status("t", traffic=TrafficStats(bytes_in=received)),))
        payload = body.model_dump_json().encode()
        return Raw("warren.v1.telemetry.gw1.report", payload, place(number, stored))

    beat = Presence(state="online", at=START, agent=AgentState.WATCH, started_at=START)
    await ingest.batch([Raw("warren.v1.telemetry.gw1.presence", beat.model_dump_json().encode(), place(1, 0))])
    await ingest.batch([raw(number, *it) for number, it in enumerate(times, 1)])
    found: dict[str, Any] = dict(recent.of("t", ["gw1"], after(300)).ends)
    assert [it for it in found["gw1"].bytes_in if it is not None] == [0, 10, 30, 10]


@given(skew=st.floats(-1e6, 1e6), delay=st.floats(0, 1e5), is_report=st.booleans())
@examples(200)
def test_only_the_delay_decides_what_is_late_where_the_skew_is_known(
    skew: float, delay: float, is_report: bool
) -> None:
    view = PeerView(last_seen_at=START, clock_skew_s=skew)
    at = after(skew - delay)
    change = TunnelChange(at=at, previous=None, status=status("t"))
    found = report_time(view, place(1, 0), Report(at=at, tunnels=()) if is_report else change)
    assert found is not None
    if abs(delay - STALE_AFTER.total_seconds()) > 0.001:
        assert found.is_late == (delay > STALE_AFTER.total_seconds())
        assert abs((START - found.at).total_seconds() - (delay if found.is_late else 0)) < 0.001


@given(
    connected=st.lists(st.booleans(), min_size=5, max_size=60),
    skew=st.sampled_from([0.0, 25.0, HOUR, -HOUR]),
    stored=st.sampled_from([10, 60]),
)
@examples(150)
def test_whatever_is_shown_as_live_is_new_whenever_the_bus_is_unavailable(
    connected: list[bool], skew: float, stored: int
) -> None:
    """An agent that reports every 10 s, and stores a report every `stored` seconds while it cannot reach the bus."""
    agent, spool = Agent(skew), []
    agent.beats(0)

    def check(now: float) -> None:
        if not agent.shown().stale:
            assert now - agent.shown().ends["gw1"].rekeys < STALE_AFTER.total_seconds() + 10

    def report(made: float, arrives: float) -> None:
        agent.reports(status("t", rekeys=int(made)), stored=arrives, made=made)
        check(arrives)

    report(0, 0)
    for second, is_connected in zip(range(10, 1_000, 10), connected, strict=False):
        agent.now = second
        check(second)
        if not is_connected:
            spool += [second] if second % stored == 0 else []
            continue
        agent.beats(second)
        check(second)
        for number, made in enumerate(spool):
            report(made, second + number / 100)
        spool = []
        report(second, second + 1)
        assert (agent.shown().stale, agent.shown().ends["gw1"].rekeys) == ((), second)
