"""The agent reports tunnels whose SAs are installed and that something speaks against."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network

from warren_contracts.selectors import TrafficSelector
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Report, TunnelChange
from warren_testkit.agent.running import SPOKES, Running, intent
from warren_testkit.waiting import eventually


async def test_peer_that_narrows_the_selectors_degrades_the_tunnel_and_names_them(running: Running) -> None:
    running.source.give(intent(7, *SPOKES))
    await running.tunnel(TunnelState.UP)
    fake = running.driver.tunnels["hub+s1"]
    (whole,) = fake.config.link.children[0].remote_ts
    network = whole.networks[0]
    assert isinstance(network, IPv4Network)
    half = next(network.subnets())
    fake.narrowed_to = (TrafficSelector(half),)
    change = await running.tunnel(TunnelState.DEGRADED)  # found at the next report
    assert (change.previous, change.status.reason) == (TunnelState.UP, ReasonCode.NARROWED)
    assert f"remote {whole}" in change.status.detail
    fake.narrowed_to = ()
    await eventually(lambda: any(it.previous is TunnelState.DEGRADED for it in changes_of(running)))
    assert changes_of(running)[-1].status.state is TunnelState.UP


def changes_of(running: Running) -> list[TunnelChange]:
    sent = [it for it in running.outlet.messages if it.subject.endswith(".tunnel")]
    return [TunnelChange.model_validate_json(it.payload) for it in sent]


async def test_clock_that_jumps_changes_time_stamps_and_nothing_else(running: Running) -> None:
    running.source.give(intent(7, *SPOKES))
    await running.tunnel(TunnelState.UP)
    await eventually(running.driver.is_read)  # a report may have been first with the tunnel's state
    await running.received(Report, "report", len(await running.received(Report, "report")) + 2)
    before, calls = changes_of(running), list(running.driver.calls)
    for jump in (timedelta(days=400), timedelta(days=-400)):
        running.ahead = jump
        reports = len(await running.received(Report, "report"))
        later = await running.received(Report, "report", reports + 3)
        assert [(it.state, it.reason) for it in later[-1].tunnels] == [(TunnelState.UP, ReasonCode.NONE)]
        assert abs(later[-1].at - (datetime.now(UTC) + jump)) < timedelta(hours=1)
    assert changes_of(running) == before
    assert running.driver.calls == calls
