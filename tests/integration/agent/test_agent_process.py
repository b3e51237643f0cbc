"""Whole agents, as processes, with real charons and a real nats-server: enrol, apply, edit, stop and return in any order."""

import asyncio
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from warren_agent.drivers.port import TAKEOVER_AFTER
from warren_contracts.status import DriverState, ReasonCode, TunnelState
from warren_contracts.telemetry import Applied, Presence, Report, TunnelChange
from warren_lab.ping import Ping
from warren_testkit.agent.control import Control
from warren_testkit.agent.process import AgentPair, AgentProcess
from warren_testkit.intent import star
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

NAME = "hub+spoke"
LIMIT = 90.0  # s


async def up(control: Control, peer: str, since: int = 0) -> TunnelChange:
    return await control.received(TunnelChange, peer, lambda it: it.status.state is TunnelState.UP, since)


async def establish(control: Control) -> None:
    """Publish the policy, and wait until both ends report its tunnel as up."""
    await control.publish(star())
    await asyncio.gather(up(control, "spoke"), up(control, "hub"))


async def test_policy_becomes_a_tunnel_that_carries_packets_and_is_reported(
    fleet: AgentPair,
) -> None:
    control, hub, spoke = fleet
    await control.publish(star())
    at_spoke, at_hub = await asyncio.gather(up(control, "spoke"), up(control, "hub"))
    assert at_spoke.status.name == at_hub.status.name == NAME
    assert at_spoke.status.link.children[0].spi_in == at_hub.status.link.children[0].spi_out
    assert await spoke.gateway.ping(hub.gateway.protected)
    applied = await control.received(Applied, "spoke", lambda it: it.ok and bool(it.tunnels))
    assert applied.tunnels[0].step == "created"
    await control.received(Report, "hub", lambda it: bool(it.tunnels))
    presence = await control.received(Presence, "spoke", lambda it: it.drivers[0].state is DriverState.UP)
    assert {"vici", "kernel-libipsec"} <= {*presence.drivers[0].plugins.split()}
    assert presence.drivers[0].socket == str(spoke.gateway.vici)
    await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))


async def test_edit_is_applied_without_a_gap_and_withdrawal_removes_everything(
    fleet: AgentPair,
) -> None:
    control, hub, spoke = fleet
    await establish(control)
    since = control.count
    await control.publish(star(options={"ike": {"dpd_delay": 41}}, crypto={"esp": ["chacha20poly1305-x25519"]}))
    changed = await control.received(
        TunnelChange,
        "spoke",
        lambda it: it.status.link.children and it.status.link.children[0].cipher == "chacha20poly1305",
        since,
    )
    assert changed.status.state is TunnelState.UP
    await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))
    assert not [it for it in control.all(TunnelChange, since) if it.status.state is TunnelState.DOWN]
    await control.publish(star(enabled=False))
    await control.received(TunnelChange, "hub", lambda it: it.removed, since)
    await asyncio.gather(hub.gateway.has(0), spoke.gateway.has(0))


def is_of(revision: int) -> Callable[[Applied], bool]:
    return lambda applied: applied.revision == revision


async def test_policy_that_moves_between_two_tags_of_an_agent_leaves_its_sas_untouched(
    fleet: AgentPair,
) -> None:
    """Issue point 4: the withdrawal from the one tag arrives before the set of the other, and tears nothing down."""
    control, hub, spoke = fleet
    await control.publish_sets({"tag=hub": [star()], "tag=branch": [star()]})
    before, _ = await asyncio.gather(up(control, "spoke"), up(control, "hub"))
    (old,) = await spoke.gateway.ike_sas()
    since = control.count
    ping = Ping(spoke.gateway.namespace, IPv4Address(spoke.gateway.protected), IPv4Address(hub.gateway.protected))
    ping.start()
    try:
        assert await asyncio.to_thread(ping.wait_for_reply, LIMIT, time.time()) is not None
        for sets in (
            {"tag=hub": [], "tag=branch": [], "tag=site": [star()]},
            {"tag=site": [], "tag=branch": [star()], "tag=hub": [star()]},
        ):
            revision = await control.publish_sets(sets)
            for peer in ("spoke", "hub"):
                applied = await control.received(Applied, peer, is_of(revision), since)
                assert (applied.ok, applied.unchanged, applied.tunnels) == (True, 1, ())
        moved = ping.counts().sent
        await eventually(
            lambda: ping.answered_from(moved) >= 50, LIMIT, "pings after the move"
        )  # a late loss counts too
    finally:
        counts = await asyncio.to_thread(ping.stop)
    assert counts.lost == 0
    assert control.all(TunnelChange, since) == []
    (now,) = await spoke.gateway.ike_sas()
    assert now.unique_id == old.unique_id
    assert [(sa.spi_in, sa.spi_out) for sa in now.children] == [(sa.spi_in, sa.spi_out) for sa in old.children]
    assert before.status.link.children[0].spi_in == now.children[0].spi_in


async def test_agent_without_a_charon_reports_its_plan_and_does_it_when_charon_comes(
    fleet: AgentPair,
) -> None:
    control, _hub, spoke = fleet
    await spoke.stop()
    await spoke.gateway.stop()
    since = control.count
    await control.publish(star())
    await spoke.start()
    change = await control.received(TunnelChange, "spoke", lambda it: it.status.state is TunnelState.ERROR, since)
    assert (change.status.name, change.status.reason) == (NAME, ReasonCode.DAEMON_UNREACHABLE)
    await control.received(
        Presence, "spoke", lambda it: it.drivers and it.drivers[0].state is DriverState.UNREACHABLE, since
    )
    await control.received(Report, "spoke", lambda it: [status.name for status in it.tunnels] == [NAME], since)
    failed = [it for it in control.all(Applied, since) if not it.ok]
    assert [it.revision for it in failed] == sorted({it.revision for it in failed})
    await spoke.gateway.start()
    await up(control, "spoke", since)
    await control.received(Presence, "spoke", lambda it: it.drivers and it.drivers[0].state is DriverState.UP, since)


async def test_both_ends_that_restart_together_come_to_one_ike_sa(
    fleet: AgentPair,
) -> None:
    control, hub, spoke = fleet
    await establish(control)
    since = control.count
    for end in (hub, spoke):
        await end.gateway.stop()
    await asyncio.gather(*(end.restart() for end in (hub, spoke)), hub.gateway.start(), spoke.gateway.start())
    await asyncio.gather(up(control, "spoke", since), up(control, "hub", since))
    await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))


async def test_initiator_makes_new_sas_as_soon_as_the_directory_says_that_its_peer_crashed(fleet: AgentPair) -> None:
    """DPD would notice after 30 s at the earliest, and the spoke is the tunnel's initiator."""
    control, hub, spoke = fleet
    await establish(control)
    (before,) = await spoke.gateway.ike_sas()
    since = control.count
    await hub.gateway.crash()
    await control.received(
        Presence, "hub", lambda it: it.drivers and it.drivers[0].state is DriverState.UNREACHABLE, since
    )
    await hub.gateway.start()
    await up(control, "hub", since)
    await eventually(lambda: '"event": "tunnel.renewed"' in spoke.log, LIMIT, "the spoke's line about it")
    await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))
    (after,) = await spoke.gateway.ike_sas()
    assert (after.unique_id, after.initiator) != (before.unique_id, False)
    assert await spoke.gateway.ping(hub.gateway.protected)


async def test_crash_of_the_hubs_charon_is_shown_at_the_spoke_at_once_and_over_as_soon_as_it_is_back(
    roaming_fleet: AgentPair,
) -> None:
    """A spoke without an address: nobody could call it, and retransmissions would take minutes."""
    control, hub, spoke = roaming_fleet
    await establish(control)
    assert control.records["spoke"].endpoints == ()
    since, began = control.count, time.monotonic()
    await hub.gateway.crash()
    await control.received(
        TunnelChange, "spoke",
        lambda it: (it.status.state, it.status.reason) == (TunnelState.DEGRADED, ReasonCode.PEER_DAEMON_UNREACHABLE), since,
    )  # fmt: skip
    print(f"shown after {time.monotonic() - began:.2f} s")
    since = control.count
    await hub.gateway.start()
    began = time.monotonic()
    await asyncio.gather(up(control, "hub", since), up(control, "spoke", since))
    print(f"up again {time.monotonic() - began:.2f} s after charon's start")
    assert await spoke.gateway.ping(hub.gateway.protected)
    await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))


async def test_agents_that_start_again_change_no_tunnel_and_announce_nothing_new(fleet: AgentPair) -> None:
    control, *agents = fleet
    hub, spoke = agents
    await establish(control)
    since = control.count
    for peer in ("hub", "spoke"):
        await control.received(Report, peer, lambda it: bool(it.tunnels), since)  # what was announced has come to both
    before = [await end.gateway.held() for end in agents]
    said, first = dict(control.announced), len(control.announced)
    ping = Ping(spoke.gateway.namespace, IPv4Address(spoke.gateway.protected), IPv4Address(hub.gateway.protected), 0.02)
    ping.start()
    try:
        for stop in (AgentProcess.stop, AgentProcess.kill) * 3:
            since, announced = control.count, len(control.announced)
            await asyncio.gather(*map(stop, agents))
            await asyncio.gather(*(end.start() for end in agents))
            await asyncio.gather(up(control, "spoke", since), up(control, "hub", since))
            await eventually(lambda: len(control.announced) >= announced + 2, LIMIT, "both announcements")  # noqa: B023
            assert await asyncio.to_thread(ping.wait_for_reply, LIMIT, time.time()) is not None
            changes = control.all(TunnelChange, since)
            assert {it.status.state for it in changes} <= {TunnelState.UP}
    finally:
        counts = await asyncio.to_thread(ping.stop)
    assert [await end.gateway.held() for end in agents] == before
    assert [(peer, it) for peer, it in control.announced[first:] if it != said[peer]] == []
    assert len(control.announced) >= first + 12
    assert counts.lost == 0


@pytest.mark.parametrize("bus", ["stopped", "hanging"])
async def test_agent_keeps_its_tunnel_without_any_server_and_reports_it_later(fleet: AgentPair, bus: str) -> None:
    control, hub, spoke = fleet
    await establish(control)
    since = control.count
    if bus == "stopped":
        await control.server.stop()
    else:
        control.server.freeze()
    try:
        await spoke.restart()
        await spoke.gateway.stop()
        await spoke.gateway.start()
        await spoke.gateway.has(1)
        assert await spoke.gateway.ping(hub.gateway.protected)
    finally:
        if bus == "stopped":
            await control.server.start()
        else:
            control.server.thaw()
    await up(control, "spoke", since)


async def test_clean_stop_says_goodbye_and_keeps_the_tunnel(fleet: AgentPair) -> None:
    control, hub, spoke = fleet
    await establish(control)
    await spoke.stop()
    assert spoke.exit_code == 0
    await control.received(Presence, "spoke", lambda it: it.state == "stopping")
    assert await spoke.gateway.ping(hub.gateway.protected)


async def test_nothing_heavy_is_imported_and_no_secret_is_logged(
    fleet: AgentPair,
) -> None:
    control, _hub, spoke = fleet
    await establish(control)
    await spoke.stop()
    modules = spoke.modules()
    heavy = (
        "pyroute2",
        "cryptography",
        "faststream",
        "asyncpg",
        "fastapi",
        "opentelemetry.sdk",
        "typer",
        "aiohttp",
        "rich",
        "nats.js.api",
        "ast",
        "dis",
        "tokenize",
    )
    assert "warren_agent.drivers.strongswan.driver" in modules
    assert [name for name in heavy if name in modules] == []
    seeds = [path.read_text().strip() for path in spoke.state.glob("*.seed")]
    assert len(seeds) == 2
    assert not any(seed in spoke.log for seed in seeds)


async def test_second_agent_on_one_state_folder_and_a_refused_token_are_errors_of_one_line(
    fleet: AgentPair, tmp_path: Path
) -> None:
    control, _hub, spoke = fleet
    await control.received(Presence, "spoke", lambda it: True)  # it is at work, and has the folder
    second = spoke.another(spoke.folder)
    assert await second.run_to_end("run") == 1
    assert "another agent uses this folder" in second.last_line
    unenrolled = spoke.another(tmp_path)
    control.callout.takes_tokens = False
    assert await unenrolled.run_to_end("enrol") == 1
    assert "refuse the join token" in unenrolled.last_line
    assert not (unenrolled.state / "identity.json").exists()


async def test_other_end_takes_over_after_thirty_seconds_and_the_initiator_that_returns_changes_nothing(
    fleet: AgentPair,
) -> None:
    control, hub, spoke = fleet
    await establish(control)
    await spoke.stop()
    since, before = control.count, asyncio.get_running_loop().time()
    await spoke.gateway.close_ike_sas()
    await control.received(TunnelChange, "hub", lambda it: it.status.state is TunnelState.DOWN, since)
    await up(control, "hub", since)
    assert asyncio.get_running_loop().time() - before >= TAKEOVER_AFTER
    await hub.gateway.has(1)
    (sa,) = await hub.gateway.ike_sas()
    assert sa.initiator
    since = control.count
    await spoke.start()
    await up(control, "spoke", since)
    assert [it.unique_id for it in await hub.gateway.ike_sas()] == [sa.unique_id]
