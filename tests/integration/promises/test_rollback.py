"""An edit that does not come up is taken back, on real charons: no ping between the sites is lost for long, and nothing loops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from warren_agent.domain.changes import ChangePhase
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Applied, AttemptFailure
from warren_lab.lab import Lab
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.timeout(600)]

NAME = "hub+spoke"
NEW_ESP = "aes128-sha256-x25519"
OTHER = {**STAR, "crypto": {"ike": [NEW_ESP], "esp": [NEW_ESP]}}
ESP_ONLY = {**STAR, "crypto": {"esp": [NEW_ESP]}}
ROLL_BACK_AFTER = 3_600.0  # s, of a clock that a test sets
LIMIT = 90.0  # s


class RollingBack(LocalAgent):
    """An agent that takes a change back when the test says that its time has passed, however long the machine takes."""

    roll_back_after = ROLL_BACK_AFTER

    async def time_passes(self) -> None:
        """Let the time pass in which a changed tunnel must come up, as soon as it is seen to be not up."""
        changes = self.changes
        await eventually(
            lambda: NAME in changes._deadlines and NAME not in changes._up_since, LIMIT, "a change that is not up"
        )
        self.ahead += ROLL_BACK_AFTER


Agents = tuple[RollingBack, RollingBack]


@pytest.fixture
async def agents(lab: Lab) -> AsyncIterator[Agents]:
    """A hub and a spoke whose tunnel is up."""
    async with contextlib.AsyncExitStack() as stack:
        hub, spoke = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2)
        lab.link(hub.namespace, "wan", f"{hub.address}/24", spoke.namespace, "wan", f"{spoke.address}/24")
        await asyncio.gather(hub.start(), spoke.start())
        records = [gateway_record(hub, "hub"), gateway_record(spoke, "branch")]
        made = [RollingBack(it, records) for it in (hub, spoke)]
        for agent in made:
            await agent.start()
            stack.push_async_callback(agent.stop)
            agent.give(STAR)
        for agent in made:
            await has_state(agent, TunnelState.UP)
        yield made[0], made[1]


async def has_state(agent: LocalAgent, state: TunnelState, reason: ReasonCode = ReasonCode.NONE) -> None:
    """Wait until an agent reports its tunnel so."""

    async def is_so() -> bool:
        found = [it for it in agent.agent._reconciler.applied if it == NAME]
        status = await agent.status(NAME)
        if not found or status is None:
            return False
        seen = agent.agent._supervisor.assess(status)
        return (seen.state, seen.reason) == (state, reason)

    await eventually(is_so, LIMIT, f"{state} {reason}")


def esp_of(agent: LocalAgent) -> str:
    """The first ESP proposal that an agent has given to its driver."""
    return agent.agent._reconciler.applied[NAME].link.children[0].proposals[0].keywords


def rollbacks(agent: LocalAgent) -> list[str]:
    return [it.detail for it in agent.all(AttemptFailure) if it.code is ReasonCode.ROLLED_BACK]


def failures(agent: LocalAgent, revision: int) -> list[tuple[str, ReasonCode]]:
    """What failed in the last round with this revision, by the agent's report."""
    last = [it for it in agent.all(Applied) if it.revision == revision][-1]
    return [(it.name, it.reason) for it in last.tunnels if it.step == "failed"]


@pytest.mark.parametrize("edit", [OTHER, ESP_ONLY], ids=["ike and esp", "esp only"])
async def test_edit_that_the_peers_daemon_refuses_is_rolled_back_and_the_next_revision_applied(
    agents: Agents, edit: dict[str, Any]
) -> None:
    hub, spoke = agents
    before = esp_of(spoke)
    revision = spoke.give(edit)
    await spoke.applied(revision)
    assert esp_of(spoke) != before
    await spoke.time_passes()
    await has_state(spoke, TunnelState.DEGRADED, ReasonCode.ROLLED_BACK)
    await eventually(lambda: esp_of(spoke) == before, LIMIT)
    assert "did not come up within 3600 s" in rollbacks(spoke)[0]
    await eventually(lambda: failures(spoke, revision) == [(NAME, ReasonCode.ROLLED_BACK)], LIMIT)
    assert await spoke.gateway.ping(hub.gateway.protected)
    for agent in agents:  # the operator corrects it: both ends get the new configuration
        agent.give(edit)
    for agent in agents:
        await has_new(agent)
    assert len(rollbacks(spoke)) == 1


async def test_peer_that_gets_the_edit_later_is_followed(agents: Agents) -> None:
    hub, spoke = agents
    before = esp_of(spoke)
    spoke.give(ESP_ONLY)
    await spoke.time_passes()
    await has_state(spoke, TunnelState.DEGRADED, ReasonCode.ROLLED_BACK)
    await eventually(lambda: esp_of(spoke) == before, LIMIT)
    await eventually(lambda: spoke.changes._phase(NAME) is ChangePhase.HELD, LIMIT, "the former configuration works")
    hub.give(ESP_ONLY)
    for agent in agents:
        await has_new(agent)


async def has_new(agent: LocalAgent) -> None:
    """Wait until a tunnel is up on the edited configuration."""
    await eventually(lambda: esp_of(agent) == NEW_ESP, LIMIT)
    await has_state(agent, TunnelState.UP)
    assert esp_of(agent) == NEW_ESP


async def test_dead_peer_makes_no_loop_and_the_new_configuration_stays(agents: Agents) -> None:
    hub, spoke = agents
    await hub.gateway.crash()
    spoke.give(ESP_ONLY)
    await spoke.gateway.has(0)
    await spoke.time_passes()
    await eventually(lambda: rollbacks(spoke), LIMIT)
    await spoke.time_passes()  # nor does the former configuration come up
    await eventually(lambda: esp_of(spoke) == NEW_ESP, LIMIT, "the new configuration for good")
    await hub.gateway.start()
    hub.give(ESP_ONLY)
    for agent in agents:
        await has_new(agent)
    assert len(rollbacks(spoke)) == 1


async def test_agent_that_is_killed_in_the_middle_rolls_back_all_the_same(
    agents: Agents,
) -> None:
    hub, spoke = agents
    before = esp_of(spoke)
    revision = spoke.give(ESP_ONLY)
    await spoke.applied(revision)
    await spoke.kill()
    again = RollingBack(spoke.gateway, [gateway_record(hub.gateway, "hub"), gateway_record(spoke.gateway, "branch")])
    await again.start()
    try:
        await eventually(lambda: again.all(Applied), LIMIT, "the intent of the disk")
        await again.time_passes()
        await has_state(again, TunnelState.DEGRADED, ReasonCode.ROLLED_BACK)
        await eventually(lambda: esp_of(again) == before, LIMIT)
    finally:
        await again.stop()
