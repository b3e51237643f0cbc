"""The first packet through the SAs that a change has made, as the agent's regular report sees it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from warren_agent.reconciler import ApplyResult
from warren_agent.telemetry.awaited_packets import LIMIT
from warren_agent.telemetry.reporter import TelemetryReporter
from warren_contracts.status import (
    ChildSaStatus,
    Evidence,
    EvidenceKind,
    IpsecStatus,
    TrafficStats,
    TunnelState,
    TunnelStatus,
)
from warren_contracts.telemetry import AppliedTunnel, TunnelChange
from warren_testkit.agent.running import intent

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


class Clock:
    """The agent's, which the test moves."""

    now = NOW


class Reporting:
    """A reporter, and the changes of tunnels that it has sent."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.reporter = TelemetryReporter("gw1", "1", self, lambda: self.clock.now)

    async def send(self, message: Any) -> None:
        raise AssertionError("the spool does not run")

    def apply(self, step: Any = "created", traceparent: str = TRACE, revision: int = 3) -> None:
        wanted = intent(revision)
        changed = type(wanted)(wanted.state, self.clock.now, traceparent)
        self.reporter.applied(changed, ApplyResult(results=[AppliedTunnel(name="t", step=step)]), 1.0)

    def report(self, after: timedelta, status: TunnelStatus) -> None:
        self.clock.now = NOW + after
        self.reporter.report([status], lambda _: 0, 0)

    def changes(self) -> list[tuple[TunnelChange, str]]:
        found = [it for it in self.reporter.spool._waiting if it.subject.endswith(".tunnel")]
        return [(TunnelChange.model_validate(json.loads(it.payload)), it.headers["traceparent"][3:35]) for it in found]


def up(*sas: tuple[timedelta, int], seen: timedelta | None = None) -> TunnelStatus:
    """A tunnel with SAs that were made so long after NOW, each with its incoming packets."""
    children = tuple(
        ChildSaStatus(
            spi_in=f"c000000{number}", spi_out="c0ffee02", cipher="aes256gcm16", established_at=NOW + after,
            traffic=TrafficStats(packets_in=packets),
        )
        for number, (after, packets) in enumerate(sas)
    )  # fmt: skip
    evidence = Evidence() if seen is None else Evidence(kind=EvidenceKind.TRAFFIC, at=NOW + seen)
    return TunnelStatus(name="t", state=TunnelState.UP, link=IpsecStatus(children=children), evidence=evidence)


def test_the_report_that_sees_a_packet_through_a_new_sa_says_so_once_in_the_trace_of_the_change() -> None:
    agent = Reporting()
    agent.apply()
    agent.report(10 * SECOND, up((2 * SECOND, 0)))
    assert agent.changes() == []
    agent.report(20 * SECOND, up((2 * SECOND, 7), seen=13 * SECOND))
    ((change, trace),) = agent.changes()
    assert (change.first_packet_at, change.previous, trace) == (NOW + 13 * SECOND, TunnelState.UP, "a" * 32)
    agent.report(30 * SECOND, up((2 * SECOND, 9), seen=29 * SECOND))
    assert len(agent.changes()) == 1


def test_packets_through_the_sa_from_before_the_change_do_not_count() -> None:
    agent = Reporting()
    agent.apply("updated-ike")
    old = -600 * SECOND
    agent.report(10 * SECOND, up((old, 900), seen=9 * SECOND))
    agent.report(20 * SECOND, up((old, 950), (3 * SECOND, 0), seen=19 * SECOND))
    assert agent.changes() == []
    agent.report(30 * SECOND, up((3 * SECOND, 1), seen=25 * SECOND))
    assert [it.first_packet_at for it, _ in agent.changes()] == [NOW + 25 * SECOND]


def test_a_state_that_follows_a_change_is_in_its_trace_until_it_is_over() -> None:
    agent = Reporting()
    agent.apply()
    agent.reporter.changed(up((SECOND, 0)), 0)
    agent.clock.now = NOW + LIMIT + SECOND
    agent.reporter.changed(up((SECOND, 0)), 0)
    (_, first), (_, second) = agent.changes()
    assert first == "a" * 32
    assert second != first
    agent.report(LIMIT + 2 * SECOND, up((SECOND, 5)))
    assert len(agent.changes()) == 2


def test_a_step_without_new_sas_or_without_a_trace_waits_for_nothing() -> None:
    for step, trace in (("unchanged", TRACE), ("failed", TRACE), ("created", "")):
        agent = Reporting()
        agent.apply(step, trace)
        agent.report(10 * SECOND, up((2 * SECOND, 7), seen=9 * SECOND))
        assert agent.changes() == []


def test_records_that_follow_a_new_revision_belong_to_its_change() -> None:
    agent, other = Reporting(), TRACE.replace("a" * 32, "c" * 32)
    agent.apply("unchanged")  # the policy came before the records of its peers
    agent.clock.now = NOW + SECOND
    agent.apply("created", other)
    agent.report(10 * SECOND, up((2 * SECOND, 7), seen=9 * SECOND))
    agent.clock.now = NOW + 60 * SECOND
    agent.apply("updated-child", other)  # a peer moves: no longer of that revision
    agent.report(70 * SECOND, up((62 * SECOND, 7), seen=69 * SECOND))
    assert [trace for _, trace in agent.changes()] == ["a" * 32, "c" * 32]


def test_a_loss_after_the_tunnel_was_up_is_no_part_of_the_change() -> None:
    agent = Reporting()
    agent.apply()
    for state in (TunnelState.CONNECTING, TunnelState.UP, TunnelState.DOWN, TunnelState.CONNECTING):
        agent.reporter.changed(TunnelStatus(name="t", state=state), 0)
    traces = [trace == "a" * 32 for _, trace in agent.changes()]
    assert traces == [True, True, False, False]
