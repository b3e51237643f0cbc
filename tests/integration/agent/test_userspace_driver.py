"""The userspace driver in mixed pairs: next to strongSwan in both roles, and next to itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from warren_agent.drivers.port import ApplyEffect, AttemptFailed, DaemonDown, DaemonTunnelChanged, DaemonUp, DriftFound
from warren_agent.errors import DriverUnavailableError
from warren_contracts.explanation import Cause
from warren_contracts.status import FleetTunnel, ReasonCode, TunnelState
from warren_intent.diagnosis import explain, situation_of
from warren_testkit.lab.agents import gateway_record
from warren_testkit.lab.gateways import Gateway, Watched, WatchedDriver
from warren_testkit.lab.handover import Handover
from warren_testkit.lab.userspace_gateways import LocalUserspaceAgent, WatchedUserspace
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]


@contextlib.asynccontextmanager
async def drivers(
    pair: tuple[Gateway, Gateway], hub_kind: str, spoke_kind: str
) -> AsyncIterator[tuple[WatchedDriver, WatchedDriver]]:
    """A driver on each gateway, of these kinds."""
    ends: list[WatchedDriver] = []
    for gateway, kind in zip(pair, (hub_kind, spoke_kind), strict=True):
        if kind == "userspace":
            own = WatchedUserspace(gateway)
            own.start_daemon()
            ends.append(own)
        else:
            await gateway.start()
            ends.append(Watched(gateway))
    await asyncio.gather(*(end.start() for end in ends))
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            if isinstance(end, WatchedUserspace):
                print(end.log[-4000:])
        await asyncio.gather(*(end.stop() for end in ends))


async def bring_up(hub: WatchedDriver, spoke: WatchedDriver) -> str:
    """Create the tunnel at both ends and start it at the spoke; returns its name."""
    await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
    config = spoke.tunnel(hub, initiator=True)
    await spoke.driver.create_tunnel(config)
    await spoke.driver.start_tunnel(config.name)
    await spoke.converged()
    await hub.converged()
    return config.name


@pytest.mark.parametrize(
    ("hub_kind", "spoke_kind"),
    [("strongswan", "userspace"), ("userspace", "strongswan"), ("userspace", "userspace")],
)
async def test_both_ends_carry_traffic(pair: tuple[Gateway, Gateway], hub_kind: str, spoke_kind: str) -> None:
    async with drivers(pair, hub_kind, spoke_kind) as (hub, spoke):
        name = await bring_up(hub, spoke)
        assert await spoke.gateway.ping(hub.gateway.protected)
        assert await hub.gateway.ping(spoke.gateway.protected)
        for end in (hub, spoke):
            status = await end.driver.tunnel_status(name)
            assert status.state is TunnelState.UP
            assert status.reason is ReasonCode.NONE
            if isinstance(end, WatchedUserspace):
                assert " gso_max_segs 45 " in end.gateway.namespace.run("ip", "-d", "link", "show", "warren0")


@pytest.mark.parametrize(
    ("hub_kind", "spoke_kind"),
    [("strongswan", "userspace"), ("userspace", "strongswan"), ("userspace", "userspace")],
)
async def test_a_branch_without_networks_gets_a_virtual_address_and_keeps_it(
    pair: tuple[Gateway, Gateway], hub_kind: str, spoke_kind: str
) -> None:
    at_hub = {"ike": {"pools": ["10.200.0.0/24"]}, "child": {"remote_ts": ["dynamic"]}}
    at_spoke = {"ike": {"vips": ["0.0.0.0"]}, "child": {"local_ts": ["dynamic"]}}  # noqa: S104 - requests any
    vip = "10.200.0.1"
    async with drivers(pair, hub_kind, spoke_kind) as (hub, spoke):
        await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, **at_hub))
        config = spoke.tunnel(hub, initiator=True, **at_spoke)
        await spoke.driver.create_tunnel(config)
        since = 0
        for _ in range(2):  # the second time with new SAs next to the old ones
            await spoke.driver.start_tunnel(config.name)
            changed = await spoke.converged(since)
            other = await hub.converged()
            assert [str(it) for it in changed.status.link.local_vips] == [vip]
            assert [str(it) for it in other.status.link.remote_vips] == [vip]
            assert [str(it) for it in changed.status.link.children[0].local_ts] == [f"{vip}/32"]
            assert await spoke.gateway.ping(hub.gateway.protected, source=vip)
            assert await hub.gateway.ping(vip)
            since = len(spoke.events)
            await spoke.driver.renew_tunnel(config.name)
        if spoke_kind == "userspace":
            routes = spoke.gateway.namespace.run("ip", "route", "show", "dev", "warren0")
            assert f"{hub.gateway.network} scope link src {vip}" in routes
            await spoke.driver.stop_tunnel(config.name)
            # what is down is dropped in the TUN device, not sent in clear
            assert hub.gateway.network in spoke.gateway.namespace.run("ip", "route", "show", "dev", "warren0")
            await spoke.driver.delete_tunnel(config.name)
            assert vip not in spoke.gateway.namespace.run("ip", "address")


async def test_a_policy_with_pools_gives_a_branch_without_networks_an_address(pair: tuple[Gateway, Gateway]) -> None:
    """From the policy to the status, by agents at both ends."""
    hub, spoke = pair
    nothing = {"subnets": (), "endpoints": (), "echo_addresses": ()}
    records = [gateway_record(hub, "hub"), gateway_record(spoke, "branch").model_copy(update=nothing)]
    topology = {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"], "pools": ["10.200.0.0/24"]}
    async with contextlib.AsyncExitStack() as stack:
        agents = [LocalUserspaceAgent(gateway, records) for gateway in pair]
        for agent in agents:
            await agent.start_daemon()
            stack.push_async_callback(agent.stop)
            await agent.start()
            agent.give({"id": "star", "topology": topology})

        async def is_up() -> bool:
            found = [await agent.userspace.list_tunnels() for agent in agents]
            return all(it and it[0].state is TunnelState.UP for it in found)

        await eventually(is_up, 60)
        (at_hub,), (at_spoke,) = [await agent.userspace.list_tunnels() for agent in agents]
        assert (at_hub.name, at_hub.policy) == (at_spoke.name, at_spoke.policy) == ("hub+spoke", "star")
        (vip,) = at_spoke.link.local_vips
        assert at_hub.link.remote_vips == (vip,)
        assert await spoke.ping(hub.protected, source=str(vip))
        assert await hub.ping(str(vip))


async def test_an_edit_is_made_without_a_gap(pair: tuple[Gateway, Gateway]) -> None:
    async with drivers(pair, "strongswan", "userspace") as (hub, spoke):
        name = await bring_up(hub, spoke)
        before = {sa.spi_in for sa in await spoke.driver.sa_info(name)}
        config = spoke.tunnel(hub, initiator=True, ike={"dpd_delay": 41})
        async with Handover(spoke.gateway, hub.gateway) as traffic:
            since = len(spoke.events)
            assert await spoke.driver.update_tunnel(config) is ApplyEffect.UPDATED_IKE
            await spoke.driver.start_tunnel(name)
            await spoke.converged(since)
            await hub.gateway.has(1)
            await traffic.done()
        traffic.check()
        assert not before & {sa.spi_in for sa in await spoke.driver.sa_info(name)}


async def test_several_children(pair: tuple[Gateway, Gateway]) -> None:
    async with drivers(pair, "strongswan", "userspace") as (hub, spoke):
        hub.gateway.add_address("10.1.1.1/24")
        more = {"local_ts": ["10.1.1.0/24"], "remote_ts": ["10.2.0.0/24"], "name": "more"}
        turned = {"local_ts": ["10.2.0.0/24"], "remote_ts": ["10.1.1.0/24"], "name": "more"}
        await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, children=[{}, more]))
        config = spoke.tunnel(hub, initiator=True, children=[{}, turned])
        await spoke.driver.create_tunnel(config)
        await spoke.driver.start_tunnel(config.name)
        await spoke.converged()
        assert {sa.child for sa in await spoke.driver.sa_info(config.name)} == {"net", "more"}
        assert await spoke.gateway.ping(hub.gateway.protected)
        assert await spoke.gateway.ping("10.1.1.1")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"link": {"remote_auth": {"kind": "raw-key", "identity": "fqdn:hub", "public_key": "A" * 43 + "="}}},
         ReasonCode.PEER_AUTH_FAILED),
        ({"ike": {"proposals": ["aes128-sha256-modp2048"]}}, ReasonCode.PROPOSAL_MISMATCH_IKE),
        ({"child": {"local_ts": ["10.77.0.0/24"]}}, ReasonCode.TS_MISMATCH),
        ({"remote_endpoints": ["192.0.2.99"]}, ReasonCode.PEER_UNREACHABLE),
    ],
    ids=["auth", "proposal", "selectors", "unreachable"],
)  # fmt: skip
async def test_a_failed_attempt_has_its_reason(
    pair: tuple[Gateway, Gateway], changes: dict[str, object], code: ReasonCode
) -> None:
    async with drivers(pair, "strongswan", "userspace") as (hub, spoke):
        await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False))
        config = spoke.tunnel(hub, initiator=True, **changes)
        await spoke.driver.create_tunnel(config)
        await spoke.driver.start_tunnel(config.name)
        failed = await spoke.first(AttemptFailed, lambda event: event.final or event.code is code)
        assert failed.code is code
        status = await spoke.driver.tunnel_status(config.name)
        # an attempt that is not over may be over by now
        assert status.state in (TunnelState.ERROR, *(() if failed.final else (TunnelState.CONNECTING,)))
        assert status.reason is failed.code


@pytest.mark.parametrize("kind", ["strongswan", "userspace"])
@pytest.mark.parametrize(("port", "cause"), [(500, Cause.BLOCKED_UDP_500), (4500, Cause.BLOCKED_UDP_4500)])
async def test_a_port_that_is_blocked_is_concluded_from_both_ends(
    pair: tuple[Gateway, Gateway], kind: str, port: int, cause: Cause
) -> None:
    gate = pair[0].namespace
    gate.run("nft", "add table inet filter; add chain inet filter in { type filter hook input priority 0 ; }")
    gate.run("nft", f"add rule inet filter in udp dport {port} drop")
    async with drivers(pair, "strongswan", kind) as (hub, spoke):
        await hub.driver.create_tunnel(hub.tunnel(spoke, initiator=False, ike={"encap": True}))
        config = spoke.tunnel(hub, initiator=True, ike={"encap": True})
        await spoke.driver.create_tunnel(config)
        await spoke.driver.start_tunnel(config.name)

        async def conclude() -> Cause:
            ends = {end: await it.driver.tunnel_status(config.name) for end, it in (("hub", hub), ("spoke", spoke))}
            tunnel = FleetTunnel(name=config.name, state=TunnelState.ERROR, peers=("hub", "spoke"), ends=ends)
            return explain(situation_of(tunnel, (), {}, datetime.now(UTC))).cause

        async def is_concluded() -> bool:
            return await conclude() is cause

        await eventually(is_concluded, 60.0)


async def test_an_attempt_is_given_up_only_if_the_peer_is_silent(pair: tuple[Gateway, Gateway]) -> None:
    async with drivers(pair, "strongswan", "userspace") as (hub, spoke):
        silent = spoke.tunnel(hub, initiator=True, remote_endpoints=["192.0.2.99"])
        await spoke.driver.create_tunnel(silent)
        await spoke.driver.start_tunnel(silent.name)
        assert await spoke.driver.give_up(silent.name)
        status = await spoke.driver.tunnel_status(silent.name)
        assert (status.state, status.reason) == (TunnelState.ERROR, ReasonCode.PEER_UNREACHABLE)
        assert await spoke.driver.give_up(silent.name)  # there is none any more


async def test_a_killed_daemon_is_reported_and_given_everything_again(pair: tuple[Gateway, Gateway]) -> None:
    async with drivers(pair, "strongswan", "userspace") as (hub, spoke):
        assert isinstance(spoke, WatchedUserspace)
        assert spoke.daemon is not None
        name = await bring_up(hub, spoke)
        since = len(spoke.events)
        spoke.daemon.kill()
        spoke.daemon.wait()
        await spoke.first(DaemonDown, since=since)
        with pytest.raises(DriverUnavailableError):
            await spoke.driver.start_tunnel(name)
        (status,) = await spoke.driver.list_tunnels()
        assert status.reason is ReasonCode.DAEMON_UNREACHABLE
        spoke.start_daemon()
        await spoke.first(DaemonUp, since=since)
        since = len(spoke.events)
        await spoke.driver.start_tunnel(name)
        await spoke.converged(since)
        assert await spoke.gateway.ping(hub.gateway.protected)


@pytest.mark.parametrize(
    "command",
    [("ip", "route", "flush", "dev", "warren0"), ("ip", "link", "set", "warren0", "down")],
    ids=["routes", "device"],
)
async def test_routes_that_somebody_removes_are_put_back(
    pair: tuple[Gateway, Gateway], command: tuple[str, ...]
) -> None:
    async with drivers(pair, "strongswan", "userspace") as (hub, spoke):
        name = await bring_up(hub, spoke)
        before = await spoke.driver.sa_info(name)
        since = len(spoke.events)
        spoke.driver.routes_changed()
        spoke.gateway.namespace.run(*command)
        spoke.driver.routes_changed()
        found = await spoke.first(DriftFound, since=since)
        assert (found.name, found.code, found.corrected) == (name, ReasonCode.CONFIG_DRIFT, True)
        assert hub.gateway.network in found.detail
        assert await spoke.gateway.ping(hub.gateway.protected)
        assert [sa.spi_in for sa in await spoke.driver.sa_info(name)] == [sa.spi_in for sa in before]


async def test_tunnels_stay_up_while_the_agent_is_started_again(pair: tuple[Gateway, Gateway]) -> None:
    async with drivers(pair, "strongswan", "userspace") as (hub, spoke):
        name = await bring_up(hub, spoke)
        before = await spoke.driver.sa_info(name)
        await spoke.restart()
        assert await spoke.gateway.ping(hub.gateway.protected)
        assert await spoke.driver.update_tunnel(spoke.tunnel(hub, initiator=True)) is ApplyEffect.UNCHANGED
        after = await spoke.driver.sa_info(name)
        assert [sa.spi_in for sa in after] == [sa.spi_in for sa in before]


async def test_packets_of_a_tunnel_that_is_down_do_not_leave(pair: tuple[Gateway, Gateway]) -> None:
    """The route into the TUN device stays: nothing is sent in clear by another route."""
    async with drivers(pair, "strongswan", "userspace") as (hub, spoke):
        name = await bring_up(hub, spoke)
        since = len(spoke.events)
        await spoke.driver.stop_tunnel(name)
        await spoke.first(DaemonTunnelChanged, lambda event: event.status.state is TunnelState.DOWN, since=since)
        route = spoke.gateway.namespace.run("ip", "route", "get", hub.gateway.protected)
        assert "dev warren0" in route
        assert not await spoke.gateway.ping(hub.gateway.protected, 1, "-W", "0.3")
        await spoke.driver.delete_tunnel(name)
        assert "warren0" not in spoke.gateway.namespace.run("ip", "route")
