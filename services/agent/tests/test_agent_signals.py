"""Signals between an agent and others: a peer's daemon was restarted; its own daemon answers."""

import asyncio
import socket
from functools import partial
from pathlib import Path

import pytest

from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Applied, Presence, TunnelChange
from warren_testkit.agent.running import HUB, SPOKES, Running, intent
from warren_testkit.waiting import eventually


async def test_tunnels_of_a_peer_whose_daemon_was_restarted_are_renewed_by_their_initiator(running: Running) -> None:
    spoke = SPOKES[0]

    def hub(run: str) -> PeerRecord:
        return HUB.model_copy(update={"drivers": (DriverCapabilities(run=run),)})

    running.source.give(intent(7, spoke, hub("a" * 16)))
    await running.tunnel(TunnelState.UP)
    spi = running.driver.tunnels["hub+s1"].spi
    running.source.give(intent(7, spoke, hub("b" * 16)))
    lost = await running.tunnel(TunnelState.DEGRADED)
    assert (lost.status.reason, "was restarted" in lost.status.detail) == (ReasonCode.PEER_DAEMON_UNREACHABLE, True)
    await eventually(lambda: running.driver.tunnels["hub+s1"].spi > spi)
    assert ("renew", "hub+s1") in running.driver.calls

    async def is_up_again() -> bool:
        last = (await running.received(TunnelChange, "tunnel"))[-1].status
        return (last.state, last.reason) == (TunnelState.UP, ReasonCode.NONE)

    await eventually(is_up_again)
    calls = list(running.driver.calls)
    running.source.give(intent(8, spoke, hub("b" * 16)))
    await running.received(Applied, "applied", 3)
    assert running.driver.calls == calls


def is_saved(running: Running, revision: int) -> bool:
    state = running.store.intent()
    return state is not None and state.policy_revision == revision


async def test_daemon_of_a_peer_that_was_restarted_while_no_agent_was_here_is_noticed_at_the_start(
    tmp_path: Path,
) -> None:
    """And one that was not changes nothing."""
    spoke = SPOKES[0]

    def hub(run: str) -> PeerRecord:
        return HUB.model_copy(update={"drivers": (DriverCapabilities(run=run),)})

    running = Running(tmp_path)
    running.source.give(intent(7, spoke, hub("a" * 16)))
    await running.tunnel(TunnelState.UP)
    await eventually(partial(is_saved, running, 7))
    for revision, run, is_renewed in ((8, "a" * 16, False), (9, "b" * 16, True), (10, "b" * 16, False)):
        await running.stop()
        held = running.driver.tunnels
        running = Running(tmp_path)
        running.driver.tunnels = held
        running.source.give(intent(revision, spoke, hub(run)))  # before it has applied the intent on its disk
        await eventually(partial(is_saved, running, revision))
        await running.tunnel(TunnelState.UP)
        if is_renewed:
            await eventually(lambda: ("renew", "hub+s1") in running.driver.calls)  # noqa: B023 - awaited in this round
        else:
            await running.received(Applied, "applied")
            assert ("renew", "hub+s1") not in running.driver.calls
    await running.stop()


async def test_service_manager_is_notified_as_long_as_the_daemon_answers(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
        running.driver.stop_daemon()
        count = len(await running.received(Presence, "presence"))
        await running.received(Presence, "presence", count + 2)  # of the absence
        while True:
            try:
                manager.recv(100)
            except BlockingIOError:
                break
        count = len(await running.received(Presence, "presence"))
        await running.received(Presence, "presence", count + 3)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
