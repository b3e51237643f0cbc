"""An agent that takes changes back, with fakes all around it: commit-confirm, and a tunnel that does not come up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from warren_agent import change_control
from warren_agent.change_control import ChangeControl
from warren_agent.domain import changes as rules
from warren_agent.state.changes_file import ChangesFile
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Applied, AttemptFailure, Report
from warren_testkit.agent.fakes import FakeGuard, FakeLink
from warren_testkit.agent.running import SPOKES, Running, intent
from warren_testkit.waiting import eventually

NAME = "hub+s1"
REFUSED = ReasonCode.PROPOSAL_MISMATCH_IKE
EDIT = {"ike": {"dpd_delay": 44}}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Bed:
    """An agent with a bus that can be cut and a clock for its changes."""

    def __init__(self, folder: Path, guard: FakeGuard | None = None) -> None:
        self.folder, self.guard = folder, guard
        self.clock, self.link = Clock(), FakeLink()
        self.run = self._started()

    def _started(self) -> Running:
        file = ChangesFile(self.folder / "changes.json")
        return Running(self.folder, guard=self.guard, changes=ChangeControl(self.clock, file, self.link))

    async def restart(self, *, kill: bool) -> None:
        """Another agent with the same folder and the same daemon."""
        driver = self.run.driver
        if kill:
            self.run.task.cancel()
            await asyncio.gather(self.run.task, return_exceptions=True)
        else:
            await self.run.stop()
        self.run = self._started()
        self.run.driver.tunnels = driver.tunnels
        self.run.driver.refusals = driver.refusals

    def dpd_delay(self, name: str = NAME) -> int | None:
        """Of the configuration that the daemon holds; None: it holds no such tunnel."""
        tunnel = self.run.driver.tunnels.get(name)
        return None if tunnel is None else tunnel.config.link.ike.dpd_delay

    def runs(self, dpd_delay: int | None) -> bool:
        """Whether the tunnel is up with it, and its agent has seen that."""
        tunnel = self.run.driver.tunnels.get(NAME)
        running = None if tunnel is None else tunnel.running
        return (
            running is not None
            and running.link.ike.dpd_delay == dpd_delay
            and NAME in self.run.agent._changes._up_since
        )

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and the agent look at it."""
        for _ in range(3):
            self.clock.now += seconds / 3
            self.link.asked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await self.link.asked.wait()

    async def applied(self, revision: int) -> Applied:
        """The newest report of a round with this revision."""
        found: list[Applied] = []

        async def is_there() -> bool:
            found[:] = [it for it in await self.run.received(Applied, "applied") if it.revision == revision]
            return bool(found)

        await eventually(is_there)
        return found[-1]


@pytest.fixture
async def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bed]:
    monkeypatch.setattr(change_control, "TICK", 0.005)  # s, of two clocks
    made = Bed(tmp_path / "state")
    yield made
    await made.run.stop()


async def settled(bed: Bed) -> None:
    """A first policy is applied and confirmed, and its tunnel is up."""
    bed.run.source.give(intent(1, *SPOKES))
    await bed.run.tunnel(TunnelState.UP)
    await bed.pass_time(130)
    await eventually(lambda: not (bed.folder / "changes.json").exists())


async def test_change_that_cuts_the_bus_off_is_rolled_back_and_not_applied_again_until_it_is_superseded(
    bed: Bed,
) -> None:
    await settled(bed)
    before = bed.dpd_delay()
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await eventually(lambda: bed.runs(44))
    bed.link.is_connected = False
    await bed.pass_time(100)
    assert bed.dpd_delay() == 44
    await bed.pass_time(30)
    await eventually(lambda: bed.dpd_delay() == before)
    applied = await bed.applied(2)
    assert not applied.ok
    bed.link.is_connected = True
    reason = (await bed.run.received(AttemptFailure, "reason"))[-1]
    assert (reason.tunnel, reason.code) == (NAME, ReasonCode.ROLLED_BACK)
    assert "the bus was lost within 120 s" in reason.detail
    change = await bed.run.tunnel(TunnelState.DEGRADED)
    assert change.status.reason is ReasonCode.ROLLED_BACK
    bed.run.source.give(intent(2, *SPOKES[:2], options=EDIT))  # the same revision, another directory
    await eventually(lambda: len([it for it in bed.run.outlet.messages if it.subject.endswith(".applied")]) >= 4)
    assert bed.dpd_delay() == before
    bed.run.source.give(intent(3, *SPOKES, options=EDIT))
    await eventually(lambda: bed.runs(44))
    await bed.pass_time(130)
    await eventually(lambda: not (bed.folder / "changes.json").exists())
    assert bed.dpd_delay() == 44


async def test_bus_that_returns_in_time_confirms_the_change(bed: Bed) -> None:
    await settled(bed)
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await eventually(lambda: bed.runs(44))
    bed.link.is_connected = False
    await bed.pass_time(60)
    bed.link.is_connected = True
    await bed.pass_time(70)
    await eventually(lambda: not (bed.folder / "changes.json").exists())
    assert bed.dpd_delay() == 44


async def test_change_that_is_made_while_the_bus_is_unavailable_waits_for_no_confirmation(bed: Bed) -> None:
    await settled(bed)
    bed.link.is_connected = False
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await eventually(lambda: bed.runs(44))
    await bed.pass_time(200)
    assert bed.dpd_delay() == 44


async def test_first_policy_that_cuts_the_bus_off_is_rolled_back_to_nothing(bed: Bed) -> None:
    bed.run.source.give(intent(1, *SPOKES))
    await bed.run.tunnel(TunnelState.UP)
    bed.link.is_connected = False
    await bed.pass_time(130)
    await eventually(lambda: bed.dpd_delay() is None)
    change = await bed.run.tunnel(TunnelState.ERROR)
    assert change.status.reason is ReasonCode.ROLLED_BACK


async def test_deletion_that_cuts_the_bus_off_is_rolled_back(bed: Bed) -> None:
    await settled(bed)
    bed.run.source.give(intent(2, *SPOKES, enabled=False))
    await eventually(lambda: bed.dpd_delay() is None)
    bed.link.is_connected = False
    await bed.pass_time(130)
    await eventually(lambda: bed.dpd_delay() is not None)


@pytest.mark.parametrize("kill", [True, False])
async def test_agent_that_is_killed_after_the_change_takes_it_back_all_the_same(bed: Bed, kill: bool) -> None:
    await settled(bed)
    before = bed.dpd_delay()
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await eventually(lambda: bed.runs(44))
    bed.link.is_connected = False
    await bed.restart(kill=kill)
    await bed.run.received(Applied, "applied")
    assert bed.dpd_delay() == 44
    await bed.pass_time(130)
    await eventually(lambda: bed.dpd_delay() == before)
    await bed.restart(kill=kill)
    await bed.run.received(Applied, "applied")
    assert bed.dpd_delay() == before
    bed.link.is_connected = True
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await bed.pass_time(130)
    assert bed.dpd_delay() == before


async def test_tunnel_that_does_not_come_up_is_rolled_back_to_what_worked(bed: Bed) -> None:
    await settled(bed)
    before = bed.dpd_delay()
    bed.run.driver.refusals[NAME] = REFUSED
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await bed.run.received(AttemptFailure, "reason")
    await bed.pass_time(50)
    assert bed.dpd_delay() == 44
    await bed.pass_time(15)
    await eventually(lambda: bed.dpd_delay() == before)
    del bed.run.driver.refusals[NAME]
    reasons = await bed.run.received(AttemptFailure, "reason")
    assert "did not come up within 60 s" in [it for it in reasons if it.code is ReasonCode.ROLLED_BACK][-1].detail
    await eventually(lambda: bed.runs(before))
    await bed.pass_time(1)
    await eventually(lambda: _is_held(bed))
    await bed.pass_time(200)
    assert bed.dpd_delay() == before
    report = (await bed.run.received(Report, "report"))[-1]
    assert [it.name for it in report.tunnels] == [NAME]


def _is_held(bed: Bed) -> bool:
    found = ChangesFile(bed.folder / "changes.json").read()
    return [it.phase for it in found] == [rules.ChangePhase.HELD]


async def test_peer_that_died_meanwhile_leaves_the_new_configuration(bed: Bed) -> None:
    await settled(bed)
    before = bed.dpd_delay()
    bed.run.driver.silent.add(NAME)
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await eventually(lambda: bed.dpd_delay() == 44)
    bed.run.driver.lose(NAME)
    await bed.pass_time(65)
    await eventually(lambda: bed.dpd_delay() == before)
    await bed.pass_time(65)
    await eventually(lambda: bed.dpd_delay() == 44)
    await bed.pass_time(300)
    assert bed.dpd_delay() == 44


async def test_tunnel_that_was_down_before_is_not_rolled_back(bed: Bed) -> None:
    bed.run.driver.refusals[NAME] = REFUSED
    bed.run.source.give(intent(1, *SPOKES))
    await bed.run.tunnel(TunnelState.ERROR)
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await eventually(lambda: bed.dpd_delay() == 44)
    await bed.pass_time(200)
    assert bed.dpd_delay() == 44


async def test_daemon_that_is_unreachable_extends_the_time(bed: Bed) -> None:
    await settled(bed)
    bed.run.driver.refusals[NAME] = REFUSED
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await bed.run.received(AttemptFailure, "reason")
    bed.run.driver.stop_daemon()
    await bed.run.tunnel(TunnelState.ERROR)
    await bed.pass_time(100)
    assert bed.dpd_delay() == 44
    bed.run.driver.refusals.clear()
    bed.run.driver.start_daemon()
    await eventually(lambda: bed.run.driver.tunnels[NAME].running is not None)
    await bed.pass_time(100)
    assert bed.dpd_delay() == 44


async def test_peer_that_gets_the_edit_later_is_followed(bed: Bed) -> None:
    await settled(bed)
    bed.run.driver.refusals[NAME] = REFUSED
    bed.run.source.give(intent(2, *SPOKES, options=EDIT))
    await bed.run.received(AttemptFailure, "reason")
    await bed.pass_time(65)
    await eventually(lambda: bed.dpd_delay() != 44)
    del bed.run.driver.refusals[NAME]
    await eventually(lambda: bed.runs(30))
    await bed.pass_time(1)
    await eventually(lambda: _is_held(bed))
    bed.run.driver.refuse(NAME, REFUSED)  # the peer's negotiation, which this end does not accept
    await eventually(lambda: bed.dpd_delay() == 44)
    await eventually(lambda: bed.run.driver.tunnels[NAME].running == bed.run.driver.tunnels[NAME].config)


async def test_traffic_of_both_configurations_is_protected_while_the_former_is_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_control, "TICK", 0.005)  # s, of two clocks
    guard = FakeGuard()
    bed = Bed(tmp_path / "state", guard)
    await settled(bed)
    bed.run.source.give(intent(2, *SPOKES, enabled=False))
    await eventually(lambda: bed.dpd_delay() is None)
    bed.link.is_connected = False
    await bed.pass_time(130)
    await eventually(lambda: bed.dpd_delay() is not None)
    assert guard.protected() == {NAME}
    await bed.run.stop()


async def test_damaged_file_is_logged_and_stops_nothing(bed: Bed) -> None:
    await settled(bed)
    await bed.run.stop()
    (bed.folder / "changes.json").write_text("{")
    with capture_logs() as logs:
        await bed.restart(kill=True)
        await bed.run.received(Applied, "applied")
    assert "changes.not_read" in [it["event"] for it in logs]
