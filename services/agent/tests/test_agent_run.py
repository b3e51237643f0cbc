"""The agent with fakes all around it: intents become tunnels, tunnels are watched, everything is reported."""

import asyncio
import errno
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from warren_agent.domain.states import TRANSITIONS, ImpossibleTransitionError, Trigger, next_state
from warren_agent.ports import Intent
from warren_agent.telemetry.reports import PART_SIZE, in_parts
from warren_bus.feed.state import FeedState
from warren_contracts.status import ChildSaStatus, DriverState, IpsecStatus, ReasonCode, TunnelState, TunnelStatus
from warren_contracts.telemetry import (
    HEADERS,
    MAX_TELEMETRY,
    AgentState,
    Applied,
    AttemptFailure,
    Presence,
    Report,
    TunnelChange,
)
from warren_testkit.agent.running import SPOKES, TRACE, Running, intent
from warren_testkit.intent import published, record
from warren_testkit.waiting import eventually


def full_disk(state: FeedState) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_intent_becomes_a_tunnel_that_is_started_and_reported(running: Running) -> None:
    running.source.give(intent(7, *SPOKES))
    (applied,) = await running.received(Applied, "applied")
    assert (applied.revision, applied.ok, [it.step for it in applied.tunnels]) == (7, True, ["created"])
    await running.tunnel(TunnelState.UP)
    assert running.agent.state is AgentState.WATCH
    (report,) = (await running.received(Report, "report"))[:1]
    assert [it.name for it in report.tunnels] == ["hub+s1"]
    headers = (await running.outlet.wait_for(1, "applied"))[0].headers
    assert headers["traceparent"].split("-")[1] == "a" * 32


async def test_unrelated_change_touches_nothing(running: Running) -> None:
    running.source.give(intent(7, *SPOKES))
    await running.tunnel(TunnelState.UP)
    calls = list(running.driver.calls)
    running.source.give(intent(8, SPOKES[0], record("s9", 99, "branch")))
    _, applied = await running.received(Applied, "applied", 2)
    assert (applied.unchanged, applied.tunnels) == (1, ())
    assert running.driver.calls == calls


async def test_edit_is_one_update_and_withdrawal_one_delete(running: Running) -> None:
    running.source.give(intent(1, *SPOKES))
    await running.tunnel(TunnelState.UP)
    running.source.give(intent(2, *SPOKES, options={"ike": {"dpd_delay": 44}}))
    _, edited = await running.received(Applied, "applied", 2)
    assert [it.step for it in edited.tunnels] == ["updated-ike"]
    running.source.give(intent(3, *SPOKES, enabled=False))
    *_, gone = await running.received(Applied, "applied", 3)
    assert [it.step for it in gone.tunnels] == ["deleted"]
    assert [change.removed for change in await running.received(TunnelChange, "tunnel")][-1]
    assert not running.driver.tunnels


async def test_lost_tunnel_is_started_again_and_counted(running: Running) -> None:
    running.source.give(intent(1, *SPOKES))
    await running.tunnel(TunnelState.UP)
    running.driver.lose("hub+s1")
    await running.tunnel(TunnelState.DOWN)
    await eventually(lambda: running.driver.calls.count(("start", "hub+s1")) == 2)
    await running.outlet.wait_for(4, "tunnel")
    reports = await running.received(Report, "report", 3)
    last = (await running.received(Report, "report", len(reports) + 1))[-1]
    assert last.tunnels[0].restarts == 1


async def test_failure_is_reported_and_retried(running: Running) -> None:
    running.driver.refusals["hub+s1"] = ReasonCode.PROPOSAL_MISMATCH_IKE
    running.source.give(intent(1, *SPOKES))
    reason, _ = (await running.received(AttemptFailure, "reason", 2))[:2]
    assert reason.code is ReasonCode.PROPOSAL_MISMATCH_IKE
    running.driver.refusals.clear()
    await running.tunnel(TunnelState.UP)


async def test_refused_configuration_keeps_the_working_one_and_is_reported(running: Running) -> None:
    running.source.give(intent(1, *SPOKES))
    await running.tunnel(TunnelState.UP)
    running.source.give(intent(2, *SPOKES, options={"child": {"mode": "transport"}}))
    _, applied = await running.received(Applied, "applied", 2)
    assert not applied.ok
    assert "mode" in applied.error
    assert (applied.tunnels[0].step, applied.tunnels[0].reason) == ("failed", ReasonCode.CONFIG_REFUSED)
    assert running.driver.tunnels["hub+s1"].running is not None


async def test_daemon_that_is_unavailable_is_reported_and_the_change_applied_on_its_return(running: Running) -> None:
    running.source.give(intent(1, *SPOKES))
    await running.tunnel(TunnelState.UP)
    running.driver.stop_daemon()
    await running.tunnel(TunnelState.ERROR)
    running.source.give(intent(2, *SPOKES, options={"ike": {"dpd_delay": 44}}))
    _, applied = await running.received(Applied, "applied", 2)
    assert not applied.ok
    running.driver.start_daemon()
    *_, applied = await running.received(Applied, "applied", 3)
    assert applied.ok
    await eventually(lambda: running.driver.tunnels["hub+s1"].running is not None)
    tunnel = running.driver.tunnels["hub+s1"].running
    assert tunnel is not None
    assert tunnel.link.ike.dpd_delay == 44


async def test_tunnel_without_a_daemon_is_reported_with_its_reason_and_once(tmp_path: Path) -> None:
    started = Running(tmp_path / "state", daemon=False)
    try:
        started.source.give(intent(1, *SPOKES))
        change = await started.tunnel(TunnelState.ERROR)
        assert (change.status.reason, change.status.peer) == (ReasonCode.DAEMON_UNREACHABLE, "hub")
        presences = await started.received(Presence, "presence", 3)
        assert presences[-1].drivers[0].state is DriverState.UNREACHABLE
        started.source.give(intent(1, *SPOKES, record("s9", 99, "branch")))
        reports = await started.received(Report, "report", 4)
        assert [(it.name, it.state, it.reason) for it in reports[-1].tunnels] == [
            ("hub+s1", TunnelState.ERROR, ReasonCode.DAEMON_UNREACHABLE)
        ]
        await eventually(lambda: (saved := started.agent._intents.saved) is not None and len(saved.directory) == 5)
        (applied,) = await started.received(Applied, "applied")
        assert not applied.ok
        started.driver.start_daemon()
        await started.tunnel(TunnelState.UP)
        assert (await started.received(Applied, "applied", 2))[-1].ok
        assert (await started.received(Presence, "presence"))[-1].drivers[0].state is DriverState.UP
    finally:
        await started.stop()


async def test_tunnel_that_cannot_be_derived_is_reported_with_the_reason_and_vanishes_with_its_policy(
    running: Running,
) -> None:
    bare = SPOKES[0].model_copy(update={"subnets": ()})
    running.source.give(intent(1, bare, *SPOKES[1:]))
    change = await running.tunnel(TunnelState.ERROR)
    assert (change.status.reason, change.status.skipped) == (ReasonCode.OTHER, "no-subnets")
    assert (change.status.detail, change.status.peer) == ("s1 has announced no protected subnets", "hub")
    (applied,) = await running.received(Applied, "applied")
    assert applied.ok
    count = len(await running.received(Report, "report"))
    report = (await running.received(Report, "report", count + 2))[-1]
    assert [(it.name, it.skipped) for it in report.tunnels] == [("hub+s1", "no-subnets")]
    running.source.give(intent(2, *SPOKES))
    up = await running.tunnel(TunnelState.UP)
    assert up.status.skipped == ""
    running.source.give(intent(3, bare, *SPOKES[1:]))
    changes = await running.received(TunnelChange, "tunnel", len(await running.received(TunnelChange, "tunnel")) + 2)
    assert (changes[-2].removed, changes[-1].status.skipped) == (True, "no-subnets")
    running.source.give(intent(4, bare, enabled=False))
    assert (await running.received(TunnelChange, "tunnel", len(changes) + 1))[-1].removed


async def test_tunnel_that_the_daemon_refuses_from_the_start_is_reported(running: Running) -> None:
    running.source.give(intent(1, *SPOKES, options={"child": {"mode": "transport"}}))
    change = await running.tunnel(TunnelState.ERROR)
    assert change.status.reason is ReasonCode.CONFIG_REFUSED
    assert "mode" in change.status.detail


async def test_overridden_tunnel_is_nobodys_failure(running: Running) -> None:
    first, second = (
        published(name, 1, hubs=["tag=hub"], spokes=["tag=branch"], priority=n) for n, name in enumerate("ab")
    )
    given = intent(1, *SPOKES)
    documents = given.state.policies["all"].model_copy(update={"policies": (first, second)})
    running.source.give(replace(given, state=given.state.model_copy(update={"policies": {"all": documents}})))
    await running.tunnel(TunnelState.UP)
    assert all(
        change.status.state is not TunnelState.ERROR for change in await running.received(TunnelChange, "tunnel")
    )


async def test_full_disk_ends_no_agent(running: Running) -> None:
    kept = running.store.save_intent
    running.store.save_intent = full_disk  # type: ignore[method-assign]
    running.source.give(intent(1, *SPOKES))
    await running.tunnel(TunnelState.UP)
    running.store.save_intent = kept  # type: ignore[method-assign]
    running.source.give(intent(2, *SPOKES))
    await running.received(Applied, "applied", 2)
    await eventually(lambda: running.store.intent() is not None)
    assert not running.task.done()


async def test_agent_starts_from_disk_without_any_server(running: Running, tmp_path: Path) -> None:
    running.source.give(intent(5, *SPOKES))
    await running.tunnel(TunnelState.UP)
    await running.stop()
    again = Running(tmp_path / "state")
    try:
        await again.tunnel(TunnelState.UP)
        (applied,) = await again.received(Applied, "applied")
        assert applied.revision == 5
        again.source.give(intent(5, *SPOKES))
        again.source.give(intent(6, *SPOKES))
        _, applied = await again.received(Applied, "applied", 2)
        assert applied.revision == 6
    finally:
        await again.stop()


async def test_clean_stop_says_goodbye_and_keeps_tunnels(running: Running) -> None:
    running.source.give(intent(1, *SPOKES))
    await running.tunnel(TunnelState.UP)
    await running.stop()
    presences = await running.received(Presence, "presence")
    assert presences[0].state == "online"
    assert presences[-1].state == "stopping"
    assert running.driver.tunnels


async def test_teardown_removes_tunnels(running: Running) -> None:
    running.source.give(intent(1, *SPOKES))
    await running.tunnel(TunnelState.UP)
    await running.stop(teardown=True)
    assert not running.driver.tunnels


async def test_peer_announces_itself_with_what_its_daemon_can_do(running: Running) -> None:
    await eventually(lambda: bool(running.registry.announced))
    assert running.registry.announced[0].drivers[0].kind == "fake"


async def test_in_a_new_epoch_the_peer_announces_itself_again_and_its_tunnel_is_not_touched(running: Running) -> None:
    first = intent(7, *SPOKES)
    running.source.give(first)
    await running.tunnel(TunnelState.UP)
    await eventually(lambda: len(running.registry.announced) == 1)
    calls = list(running.driver.calls)
    trust = first.state.trust.model_copy(update={"epoch": 2})
    sets = {name: held.model_copy(update={"epoch": 2, "revision": 3}) for name, held in first.state.policies.items()}
    state = first.state.model_copy(update={"trust": trust, "epoch": 2, "policies": sets})
    running.source.give(Intent(state, datetime.now(UTC), TRACE))
    applied = (await running.received(Applied, "applied", 2))[1]
    assert (applied.epoch, applied.revision, applied.tunnels, applied.unchanged) == (2, 3, (), 1)
    await eventually(lambda: len(running.registry.announced) == 2)
    assert running.driver.calls == calls


@pytest.mark.parametrize("state", AgentState)
@pytest.mark.parametrize("trigger", Trigger)
def test_state_machine_does_what_its_table_says(state: AgentState, trigger: Trigger) -> None:
    if (state, trigger) in TRANSITIONS:
        assert next_state(state, trigger) is TRANSITIONS[state, trigger]
    else:
        with pytest.raises(ImpossibleTransitionError):
            next_state(state, trigger)


def test_report_is_cut_into_parts_that_fit_one_message() -> None:
    selectors = tuple(ip_network(f"10.{n}.0.0/16") for n in range(64))
    sa = ChildSaStatus(
        spi_in="00000001", spi_out="00000002", cipher="aes256gcm16", local_ts=selectors, remote_ts=selectors
    )
    statuses = [
        TunnelStatus(name=f"hub+s{n}", state=TunnelState.UP, link=IpsecStatus(children=(sa,) * (n % 3)))
        for n in range(100)
    ]
    parts = in_parts(statuses, datetime.now(UTC), policy_sync_errors=1, dpd_failures=2)
    assert [status for part in parts for status in part.tunnels] == statuses
    assert [(it.part, it.parts) for it in parts] == [(n, len(parts)) for n in range(len(parts))]
    sizes = [len(part.model_dump_json()) for part in parts]
    assert max(sizes) < MAX_TELEMETRY - HEADERS
    assert min(sizes[:-1]) > PART_SIZE // 2
    (empty,) = in_parts([], datetime.now(UTC), 0, 0)
    assert (empty.part, empty.parts, empty.tunnels) == (0, 1, ())


async def test_tunnel_of_an_earlier_run_that_nobody_wants_any_more_is_removed(running: Running) -> None:
    running.source.give(intent(1, *SPOKES))
    await running.tunnel(TunnelState.UP)
    left = running.driver.tunnels["hub+s1"].config.model_copy(update={"name": "hub+gone"})
    again = Running(running.store.folder.with_name("other"))
    try:
        await again.driver.initialize()
        await again.driver.create_tunnel(left)
        again.source.give(intent(1, *SPOKES))
        await again.tunnel(TunnelState.UP)
        assert set(again.driver.tunnels) == {"hub+s1"}
    finally:
        await again.stop()


async def test_a_refused_announcement_is_logged_once_and_repeated(tmp_path: Path) -> None:
    made = Running(tmp_path / "state")
    made.registry.refusal = "10.0.0.0/24 overlaps"
    with capture_logs() as lines:
        try:
            await asyncio.wait_for(made.registry.refused.wait(), 60)
            made.driver.stop_daemon()
            made.registry.refused.clear()
            made.driver.start_daemon()  # its news are said at once, and refused again
            await asyncio.wait_for(made.registry.refused.wait(), 60)
            made.registry.refusal = ""
            made.driver.stop_daemon()
            made.driver.start_daemon()
            await eventually(lambda: bool(made.registry.announced))
        finally:
            await made.stop()
    assert [line["error"] for line in lines if line["event"] == "announcement.refused"] == ["10.0.0.0/24 overlaps"]
