"""Nested selectors that policies give: all of an aggregate to the hub, one network of it directly. Real charons on kernel-libipsec."""

import asyncio
import contextlib
from functools import partial

import pytest

from warren_contracts.status import TunnelState, TunnelStatus
from warren_lab.lab import Lab
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

LIMIT = 90.0  # s
ALL, NEAR = "10.64.0.0/10", "10.65.0.0/24"
AT_HUB, AT_BRANCH = "10.64.0.1", "10.65.0.1"


def policy(peer: str, *subnets: str) -> dict[str, object]:
    return {
        "id": f"to-{peer}",
        "tunnels": [{"name": f"to-{peer}", "ends": [{"peer": peer, "subnets": [*subnets]}, {"peer": "spoke"}]}],
    }


async def status(agent: LocalAgent, peer: str) -> TunnelStatus | None:
    return await agent.status(f"to-{peer}")


async def is_up(agent: LocalAgent, peer: str) -> bool:
    found = await status(agent, peer)
    return found is not None and found.state is TunnelState.UP


async def sent(agent: LocalAgent, target: str) -> dict[str, int]:
    """The packets that each tunnel has taken of some pings, which are all answered; by peer."""

    async def counted() -> dict[str, int]:
        found = {peer: await status(agent, peer) for peer in ("hub", "branch")}
        return {peer: it.traffic.packets_out for peer, it in found.items() if it is not None}

    before = await counted()
    assert await agent.gateway.ping(target)
    after = await counted()
    return {peer: count - before.get(peer, 0) for peer, count in after.items() if count != before.get(peer, 0)}


async def test_the_longer_prefix_wins_whichever_tunnel_came_first(lab: Lab) -> None:
    hub, spoke, branch = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2), Gateway(lab, "branch", 3)
    branch.address = "198.51.100.3"
    hub.add_address(f"{AT_HUB}/32")
    branch.add_address(f"{AT_BRANCH}/24")
    lab.link(hub.namespace, "wan", f"{hub.address}/24", spoke.namespace, "wan1", f"{spoke.address}/24")
    lab.link(branch.namespace, "wan", "198.51.100.3/24", spoke.namespace, "wan2", "198.51.100.2/24")
    records = [
        gateway_record(hub),
        gateway_record(spoke).model_copy(update={"endpoints": ()}),
        gateway_record(branch),
    ]
    agents = [LocalAgent(it, records) for it in (hub, spoke, branch)]
    _, at_spoke, _ = agents
    wide, near = policy("hub", ALL), policy("branch", NEAR)

    async def give(*policies: dict[str, object]) -> None:
        await asyncio.gather(*(agent.applied(agent.give(*policies)) for agent in agents))

    async with contextlib.AsyncExitStack() as stack:
        for agent in agents:
            await agent.gateway.start()
            await agent.start()
            stack.push_async_callback(agent.stop)
        for first in (wide, near):
            await give(first)
            await give(wide, near)
            for peer in ("hub", "branch"):
                await eventually(partial(is_up, at_spoke, peer), LIMIT, f"the tunnel to {peer}")
            assert await sent(at_spoke, AT_BRANCH) == {"branch": 3}
            assert await sent(at_spoke, AT_HUB) == {"hub": 3}
            await give()
        await give(wide)
        await eventually(partial(is_up, at_spoke, "hub"), LIMIT, "the tunnel to hub")
        assert not await spoke.ping(AT_BRANCH, 3, "-W", "2")  # it went to the hub, which does not know it
        assert await sent(at_spoke, AT_HUB) == {"hub": 3}
