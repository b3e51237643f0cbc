"""A charon that does not answer: it is shown as unreachable, and what was changed meanwhile is applied when it answers again."""

import asyncio
import contextlib
import functools
import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from warren_agent.drivers.port import DaemonDown, DaemonUp
from warren_contracts.status import DriverState, ReasonCode, TunnelState
from warren_contracts.telemetry import Presence
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, agents_of
from warren_testkit.lab.gateways import Gateway, Watched
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

NAME = "hub+spoke"
LIMIT = 90.0  # s
CHACHA = {"crypto": {"esp": ["chacha20poly1305-x25519"]}}


@contextlib.contextmanager
def silent(gateway: Gateway) -> Iterator[None]:
    """Its charon is stopped as by a defect: its sockets stay open, and nobody answers."""
    pid = gateway.charon.process_id
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
async def agents(both: tuple[Gateway, Gateway]) -> AsyncIterator[tuple[LocalAgent, LocalAgent]]:
    async with agents_of(*both) as found:
        yield found


async def is_up_with(agent: LocalAgent, cipher: str) -> bool:
    status = await agent.status(NAME)
    return (
        status is not None
        and (status.state, status.reason) == (TunnelState.UP, ReasonCode.NONE)
        and [sa.cipher for sa in status.link.children] == [cipher]
        and len(await agent.connections()) == 1
    )


def is_unreachable(agent: LocalAgent) -> bool:
    return any(it.state is DriverState.UNREACHABLE and it.detail for it in agent.last(Presence).drivers)


async def test_edit_made_while_charon_is_silent_is_applied_when_it_answers_again(
    agents: tuple[LocalAgent, LocalAgent],
) -> None:
    hub, spoke = agents
    for agent in agents:
        agent.give(STAR)
    for agent in agents:
        await eventually(functools.partial(is_up_with, agent, "aes256gcm16"), LIMIT, pause_s=0.1)
    with silent(spoke.gateway):
        for agent in agents:
            agent.give(STAR | CHACHA)
        await eventually(lambda: is_unreachable(spoke), LIMIT)
        # the command that was not answered, or the heartbeat, whichever was sent first
        assert (
            spoke.last(Presence).drivers[0].detail.startswith(("load-conn: no answer", "version: no answer", "list: "))
        )
        status = await spoke.status(NAME)
        assert status is not None
        assert status.reason is ReasonCode.DAEMON_UNREACHABLE
    for agent in agents:
        await eventually(functools.partial(is_up_with, agent, "chacha20poly1305"), LIMIT, pause_s=0.1)
    await asyncio.gather(hub.gateway.has(1), spoke.gateway.has(1))


async def test_idle_charon_that_stops_to_answer_is_noticed_and_taken_up_again(hub: Gateway) -> None:
    watched = Watched(hub)
    await watched.start()
    try:
        with silent(hub):
            down = await watched.first(DaemonDown, within=LIMIT)
            assert down.step in ("version", "list")  # the heartbeat, or the comparison with the ledger that had begun
            assert "no answer" in down.detail
        await watched.first(DaemonUp, since=len(watched.events), within=LIMIT)
    finally:
        await watched.stop()


async def test_charon_that_cannot_take_the_key_names_the_plugins(pair: tuple[Gateway, Gateway]) -> None:
    gateway = pair[0]
    gateway.lose_plugin("curve25519", "openssl")
    await gateway.start()
    watched = Watched(gateway)
    await watched.initialize()
    try:
        down = await watched.first(DaemonDown, within=LIMIT)
        assert down.step == "load-key"
        assert "load the plugin curve25519 or openssl" in down.detail
    finally:
        await watched.stop()
