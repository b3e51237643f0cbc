"""More than one way to a peer, on real charons: addresses in turn, a standby gateway, and back to the preferred one."""

import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from warren_contracts.addresses import Endpoint
from warren_contracts.peers import DriverCapabilities
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import Report, TunnelChange
from warren_lab.lab import Lab
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

HOLD_DOWN = 2.0  # s


def set_link(gateway: Gateway, device: str, state: str) -> None:
    gateway.namespace.run("ip", "link", "set", device, state)


@contextlib.asynccontextmanager
async def running(*agents: LocalAgent, policy: dict[str, Any] = STAR) -> AsyncIterator[None]:
    """Charons and agents at work with one policy."""
    async with contextlib.AsyncExitStack() as stack:
        for agent in agents:
            await agent.gateway.start()
            await agent.start()
            stack.push_async_callback(agent.stop)
            agent.give(policy)
        yield


async def only(spoke: LocalAgent, tunnel: str, address: str) -> None:
    """Wait until exactly one tunnel, to one address, carries traffic."""

    async def is_only() -> bool:
        return await spoke.carrying() == {(tunnel, address)}

    await eventually(is_only, 90)


def two_hubs(lab: Lab) -> tuple[Gateway, Gateway, Gateway]:
    """Two hubs in front of 10.1.0.0/24, each on a link of its own to a spoke."""
    first, spoke, second = Gateway(lab, "hub-1", 1), Gateway(lab, "spoke", 2), Gateway(lab, "hub-2", 3)
    second.address, second.network, second.protected = "198.51.100.3", first.network, first.protected
    second.add_address(f"{first.protected}/24")
    lab.link(first.namespace, "wan", "192.0.2.1/24", spoke.namespace, "wan1", "192.0.2.2/24")
    lab.link(second.namespace, "wan", "198.51.100.3/24", spoke.namespace, "wan2", "198.51.100.2/24")
    return first, spoke, second


async def test_a_standby_gateway_takes_over_and_gives_back_and_never_claims_with_the_first(lab: Lab) -> None:
    gateways = two_hubs(lab)
    first, spoke, second = gateways
    dynamic: dict[str, Any] = {"endpoints": ()}
    records = [
        gateway_record(first, "hub").model_copy(update={"priority": 200}),
        gateway_record(spoke, "branch").model_copy(update=dynamic),
        gateway_record(second, "hub").model_copy(update={"priority": 100, "subnets": (ip_network(first.network),)}),
    ]
    agents = [LocalAgent(it, records, hold_down=HOLD_DOWN) for it in gateways]
    at_spoke = agents[1]
    async with running(*agents):
        await only(at_spoke, "hub-1+spoke", first.address)
        assert await spoke.ping(first.protected)

        async def stands_by() -> bool:
            status = await at_spoke.status("hub-2+spoke")
            return status is not None and status.state is not TunnelState.UP

        await eventually(stands_by)
        set_link(first, "wan", "down")
        await only(at_spoke, "hub-2+spoke", second.address)
        assert await spoke.ping(first.protected)
        set_link(first, "wan", "up")
        await only(at_spoke, "hub-1+spoke", first.address)
        assert await spoke.ping(first.protected)


async def test_a_gateway_that_announces_the_loss_of_its_daemon_is_replaced_and_shown(lab: Lab) -> None:
    gateways = two_hubs(lab)
    first, spoke, second = gateways
    records = [
        gateway_record(first, "hub").model_copy(update={"priority": 200}),
        gateway_record(spoke, "branch").model_copy(update={"endpoints": ()}),
        gateway_record(second, "hub").model_copy(update={"priority": 100, "subnets": (ip_network(first.network),)}),
    ]
    agents = [LocalAgent(it, records, hold_down=HOLD_DOWN) for it in gateways]
    at_spoke = agents[1]
    async with running(*agents):
        await only(at_spoke, "hub-1+spoke", first.address)
        await only_answers(at_spoke, "hub-2+spoke")
        await first.crash()
        lost = records[0].model_copy(update={"drivers": (DriverCapabilities(reachable=False),)})
        at_spoke.change_records(lost, *records[1:])
        at_spoke.give(STAR)
        await only(at_spoke, "hub-2+spoke", second.address)
        assert await spoke.ping(first.protected)

        def is_shown() -> bool:
            last = next(it.status for it in reversed(at_spoke.all(TunnelChange)) if it.status.name == "hub-1+spoke")
            return (last.state, last.reason) == (TunnelState.DOWN, ReasonCode.PEER_DAEMON_UNREACHABLE)

        await eventually(is_shown, 90)


async def only_answers(spoke: LocalAgent, tunnel: str) -> None:
    """Wait until the gateway of a standby tunnel has answered a probe."""
    choice = spoke.ways._choices[tunnel]
    await eventually(lambda: any(it.answers for way, it in choice.health.items() if way.tunnel == tunnel), 90)


async def test_a_standby_that_an_earlier_run_established_stays_until_the_first_is_back(lab: Lab) -> None:
    gateways = two_hubs(lab)
    first, spoke, second = gateways
    records = [
        gateway_record(first, "hub").model_copy(update={"priority": 200}),
        gateway_record(spoke, "branch").model_copy(update={"endpoints": ()}),
        gateway_record(second, "hub").model_copy(update={"priority": 100, "subnets": (ip_network(first.network),)}),
    ]
    agents = [LocalAgent(it, records, hold_down=HOLD_DOWN) for it in gateways]
    set_link(first, "wan", "down")
    async with running(*agents):
        await only(agents[1], "hub-2+spoke", second.address)
        (before,) = await spoke.ike_sas()
        await agents[1].stop()
        again = LocalAgent(spoke, records, hold_down=HOLD_DOWN)
        agents[1] = again
        await again.start()
        try:
            await again.applied(again.give(STAR))
            await only(again, "hub-2+spoke", second.address)
            assert [sa.unique_id for sa in await spoke.ike_sas()] == [before.unique_id]
        finally:
            await again.stop()


async def test_the_addresses_of_a_peer_are_called_in_turn_and_the_preferred_one_again_after_a_while(lab: Lab) -> None:
    hub, spoke = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2)
    lab.link(hub.namespace, "wan1", "192.0.2.1/24", spoke.namespace, "wan1", "192.0.2.2/24")
    lab.link(hub.namespace, "wan2", "198.51.100.1/24", spoke.namespace, "wan2", "198.51.100.2/24")
    hub.more_addresses = ("198.51.100.1",)
    addresses = tuple(Endpoint(ip_address(it)) for it in ("192.0.2.1", "198.51.100.1"))
    records = [
        gateway_record(hub, "hub").model_copy(update={"endpoints": addresses}),
        gateway_record(spoke, "branch").model_copy(update={"endpoints": ()}),
    ]
    agents = [LocalAgent(it, records, hold_down=HOLD_DOWN) for it in (hub, spoke)]
    set_link(hub, "wan1", "down")
    async with running(*agents), contextlib.AsyncExitStack() as stack:
        await only(agents[1], "hub+spoke", "198.51.100.1")
        assert await spoke.ping(hub.protected)
        held = await spoke.held()
        await agents[1].stop()
        agents[1] = again = LocalAgent(spoke, records, hold_down=HOLD_DOWN)
        await again.start()
        stack.push_async_callback(again.stop)
        await again.applied(again.give(STAR))
        await eventually(lambda: again.all(Report), what="a report")
        assert await spoke.held() == held  # it stays where it was
        set_link(hub, "wan1", "up")
        await only(agents[1], "hub+spoke", "192.0.2.1")
        assert await spoke.ping(hub.protected)
        set_link(hub, "wan1", "down")
        await only(agents[1], "hub+spoke", "198.51.100.1")
        assert await spoke.ping(hub.protected)


async def test_a_name_that_does_not_resolve_delays_no_other_tunnel(lab: Lab) -> None:
    hub, spoke = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2)
    lab.link(hub.namespace, "wan", f"{hub.address}/24", spoke.namespace, "wan", f"{spoke.address}/24")
    agents = [LocalAgent(it, [gateway_record(hub, "hub"), gateway_record(spoke, "branch")]) for it in (hub, spoke)]
    dead = [
        {
            "name": f"dead-{number}",
            "ends": [
                {"peer": "spoke"},
                {
                    "identity": f"gw{number}.invalid", "public_key": gateway_record(hub).keys[0].public,
                    "addresses": [f"gw{number}.invalid"], "subnets": [f"10.99.{number}.0/24"],
                },
            ],
        }
        for number in range(20)
    ]  # fmt: skip
    async with running(*agents, policy=STAR | {"tunnels": dead}):
        await only(agents[1], "hub+spoke", hub.address)
        assert await spoke.ping(hub.protected)

        async def is_reported() -> bool:
            return bool(agents[1].ways.unresolved("dead-3"))

        await eventually(is_reported, 90)
