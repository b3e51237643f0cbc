"""An agent that is killed before each command of an edit, on two real charons: the next one converges, and nothing older remains."""

import asyncio
from functools import partial
from typing import Any

import pytest

from warren_contracts.status import TunnelState
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

NAME = "hub+spoke"
LIMIT = 90.0  # s
MOST_COMMANDS = 60
# Both ends of the alternative differ at the IKE level and in the child: every kind of command is part of the edit.
CIPHERS = ("aes256gcm16-prfsha384-x25519", "aes128gcm16-prfsha256-x25519")


def star(number: int) -> dict[str, Any]:
    ike = CIPHERS[number % 2]
    return {
        "id": "star", "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]},
        "crypto": {"ike": [ike], "esp": [f"{ike.partition('-')[0]}-x25519"]},
    }  # fmt: skip


async def carries(agent: LocalAgent, number: int) -> bool:
    """Whether the tunnel is up on this edit, whatever older SAs are still next to it."""
    status = await agent.status(NAME)
    return status is not None and status.state is TunnelState.UP and status.link.ike_cipher == CIPHERS[number % 2]


async def stands(agent: LocalAgent, number: int) -> bool:
    """Whether charon holds this edit and nothing else."""
    connections, sas = await agent.connections(), await agent.gateway.ike_sas()
    status = await agent.status(NAME)
    if status is None or len(sas) != 1 or len(connections) != 1 or status.state is not TunnelState.UP:
        return False
    ciphers = status.link.ike_cipher, [sa.cipher for sa in status.link.children]
    return ciphers == (CIPHERS[number % 2], [CIPHERS[number % 2].partition("-")[0]])


async def is_over(reached: asyncio.Event, at_hub: LocalAgent, number: int) -> bool:
    """Whether the spoke's agent hangs, or the edit has come to its end without the command at which it would."""
    return reached.is_set() or await stands(at_hub, number)


async def test_agent_killed_at_every_step_of_an_edit_converges(both: tuple[Gateway, Gateway]) -> None:
    hub, spoke = both
    records = [gateway_record(hub, "hub"), gateway_record(spoke, "branch")]
    at_hub, at_spoke = LocalAgent(hub, records, 60.0), LocalAgent(spoke, records, 60.0)
    await at_hub.start()
    await at_spoke.start()
    try:
        number = 0
        at_hub.give(star(number))
        at_spoke.give(star(number))
        await eventually(lambda: stands(at_spoke, 0), LIMIT)
        for step in range(1, MOST_COMMANDS):
            number += 1
            reached = at_spoke.stop_at_command(step)
            at_hub.give(star(number))
            at_spoke.give(star(number))
            await eventually(partial(is_over, reached, at_hub, number), LIMIT)
            finished = not reached.is_set()
            await at_spoke.kill()
            at_spoke = LocalAgent(spoke, records, 60.0)
            await at_spoke.start()
            at_spoke.give(star(number))
            for end in (at_hub, at_spoke):
                await eventually(partial(carries, end, number), LIMIT)
            if finished:
                break
        for end in (at_hub, at_spoke):
            await eventually(partial(stands, end, number), LIMIT)
        print(f"{step} commands")
        assert step > 5  # an edit takes that many commands at least: load, read, initiate, terminate, unload
    finally:
        await at_hub.stop()
        await at_spoke.stop()
