"""A gateway whose own address changes: its tunnel moves with it, also while no agent is there.

With MOBIKE (RFC 4555) the IKE_SA moves; without, charon makes a new one in its place.
"""

import contextlib
from ipaddress import IPv4Address

import pytest

from warren_contracts.status import TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_lab.lab import Lab
from warren_lab.ping import Ping
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

LIMIT = 90.0  # s
NAME = "hub+spoke"


@pytest.mark.parametrize("mobike", [True, False], ids=["mobike", "no mobike"])
async def test_tunnel_of_a_gateway_whose_address_changes_moves_with_it(lab: Lab, mobike: bool) -> None:
    policy = STAR | {"options": {"ike": {"mobike": mobike}}}
    hub, spoke = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2)
    lab.link(hub.namespace, "wan", f"{hub.address}/24", spoke.namespace, "wan", f"{spoke.address}/24")
    records = [gateway_record(hub, "hub"), gateway_record(spoke, "branch").model_copy(update={"endpoints": ()})]
    at_hub, at_spoke = LocalAgent(hub, records), LocalAgent(spoke, records)

    async def is_at(address: str) -> bool:
        hosts = [sa.remote_host for sa in await hub.ike_sas()]
        return hosts == [address] and await spoke.ping(hub.protected)

    async with contextlib.AsyncExitStack() as stack:
        for agent in (at_hub, at_spoke):
            await agent.gateway.start()
            await agent.start()
            stack.push_async_callback(agent.stop)
            agent.give(policy)

        async def is_up() -> bool:
            return await is_at(spoke.address)

        await eventually(is_up, LIMIT, "the tunnel")
        (before,) = await spoke.ike_sas()
        with Ping(spoke.namespace, IPv4Address(spoke.protected), IPv4Address(hub.protected), 0.02) as ping:
            former = f"{spoke.address}/24"
            for address, has_agent in (("192.0.2.22", True), ("192.0.2.23", False)):
                if not has_agent:
                    await at_spoke.stop()
                # Of another prefix length: the kernel removes the second address of a network together with the first.
                moved = f"{address}/{25 if has_agent else 26}"
                spoke.namespace.run("ip", "address", "add", moved, "dev", "wan")
                spoke.namespace.run("ip", "address", "del", former, "dev", "wan")
                former = moved

                async def has_moved() -> bool:
                    return await is_at(address)  # noqa: B023

                await eventually(has_moved, LIMIT, f"the tunnel at {address}")
                assert ({sa.unique_id for sa in await spoke.ike_sas()} == {before.unique_id}) is mobike
            await spoke.has(1)
            held = await spoke.held()
            again = LocalAgent(spoke, records)
            await again.start()
            stack.push_async_callback(again.stop)
            await again.applied(again.give(policy))
            await eventually(lambda: [it for it in again.all(TunnelChange) if it.status.state is TunnelState.UP], LIMIT)
            received = ping.counts().received
            await eventually(lambda: ping.counts().received > received + 20, LIMIT, "replies")
            assert await spoke.held() == held
        await eventually(lambda: at_hub.last(TunnelChange).status.state is TunnelState.UP, LIMIT, "the hub's report")
