"""Route-based tunnels on a kernel with XFRM interfaces: 0.0.0.0/0 at both ends, and routes that lead into `xfrm<id>`.

A hub and two spokes, each tunnel with an id of its own. Each gateway also has a way in clear, of a worse metric: what the interface
does not take is seen on the wire.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from warren_contracts.policy import Policy
from warren_contracts.status import TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_lab.capture import Capture
from warren_lab.charon_conf import IpsecBackend
from warren_lab.namespace import Namespace
from warren_lab.ping import Ping
from warren_lab.xfrm import charon_routes, kernel_policies
from warren_testkit.agent.control import Control
from warren_testkit.agent.process import GatewayAgent
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.lab.kernel import join
from warren_testkit.lab.promises import EMULATED_INTERVAL_S, Site, Traffic, sites
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.kernel, pytest.mark.timeout(1500)]

WAIT_S = 300.0
PAUSE_S = 3.0  # between two looks: each takes the emulated machine a second
IDS = {"spoke": 41, "branch": 42}  # of the tunnel to each spoke, at both ends


def routed(**changes: object) -> Policy:
    """A tunnel between all addresses for each spoke."""

    def end(peer: str, number: int) -> dict[str, object]:
        return {"peer": peer, "subnets": ["0.0.0.0/0"], "xfrm": {"if_id_in": number, "if_id_out": number}}

    tunnels = [{"name": f"to-{peer}", "ends": [end("hub", number), end(peer, number)]} for peer, number in IDS.items()]
    return Policy.model_validate({"id": "routed", "tunnels": tunnels, "protect_after_delete": "keep", **changes})


class RoutedBed:
    """Three guarded sites on one wire."""

    def __init__(self, hub: Site, spokes: dict[str, Site], control: Control, wire: tuple[Namespace, str]) -> None:
        self.hub, self.spokes, self.control, self.wire = hub, spokes, control, wire
        self.sites = (hub, *spokes.values())
        self.agents = [GatewayAgent(it.gateway, control, more=it.guard.environment) for it in self.sites]

    def route_in_clear(self) -> None:
        """The ways that packets take without an interface."""
        for spoke in self.spokes.values():
            for own, peer in ((self.hub, spoke), (spoke, self.hub)):
                way = ["via", peer.gateway.address, "dev", "wan", "metric", "100"]
                own.namespace.run("ip", "route", "add", peer.gateway.network, *way)

    def route_into_tunnels(self) -> None:
        """The operator's routes: what each interface is for."""
        for name, number in IDS.items():
            for own, peer in ((self.hub, self.spokes[name]), (self.spokes[name], self.hub)):
                way = ["dev", f"xfrm{number}", "src", own.gateway.protected]
                own.namespace.run("ip", "route", "replace", peer.gateway.network, *way)

    async def has_interfaces(self) -> bool:
        """Whether every gateway has exactly the interfaces of its tunnels."""
        wanted = [set(IDS.values()), *({number} for number in IDS.values())]
        return [await asyncio.to_thread(_interfaces, site) for site in self.sites] == wanted

    @contextlib.asynccontextmanager
    async def traffic(self) -> AsyncIterator[Traffic]:
        """Pings both ways between the hub's site and each spoke's, of gateways and hosts; every frame on the wire is looked at."""
        inner = {IPv4Address(it) for site in self.sites for it in (site.gateway.protected, site.host_address)}
        capture = Capture(self.wire[0], self.wire[1], frozenset(inner))
        pings = []
        for spoke in self.spokes.values():
            for own, peer in ((self.hub, spoke), (spoke, self.hub)):
                for namespace, source, target in (
                    (own.namespace, own.gateway.protected, peer.gateway.protected),
                    (own.host, own.host_address, peer.host_address),
                ):
                    pings.append(Ping(namespace, IPv4Address(source), IPv4Address(target), EMULATED_INTERVAL_S, 0.0))
        with contextlib.ExitStack() as stack:
            stack.enter_context(capture)
            for ping in pings:
                stack.enter_context(ping)
            yield Traffic([capture], pings)

    async def up(self, since: int = 0) -> None:
        for name in IDS:
            await self.control.received(
                TunnelChange, name, lambda it: it.status.state is TunnelState.UP, since, within=WAIT_S
            )


def _interfaces(site: Site) -> set[int]:
    listed = site.namespace.run("ip", "-oneline", "-details", "link", "show", "type", "xfrm")
    return {int(line.split("if_id ")[1].split()[0], 0) for line in listed.splitlines()}


def _print_kernel(site: Site) -> None:
    """What pytest shows of a test that failed."""
    print(f"--- {site.gateway.name}")
    for what in ("state", "policy"):
        print(site.namespace.run("ip", "-statistics", "xfrm", what, *(["list", "nokeys"] if what == "state" else [])))
    print(site.namespace.run("ip", "-statistics", "link", "show", "type", "xfrm"))
    print(site.namespace.run("ip", "route", "show", "table", "all"))
    print(
        "\n".join(
            line for line in site.gateway.log.splitlines() if "[IKE]" in line or "[CHD]" in line or "[KNL]" in line
        )
    )


async def has_none(bed: RoutedBed) -> bool:
    """Whether no gateway has an XFRM interface."""
    return not any([await asyncio.to_thread(_interfaces, site) for site in bed.sites])


@pytest.fixture
async def bed(tmp_path: Path, wired: object) -> AsyncIterator[RoutedBed]:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(tmp_path))
        callout = await stack.enter_async_context(GrantingCallout(server))
        control = await stack.enter_async_context(Control(server, callout))
        both = stack.enter_context(sites(IpsecBackend.KERNEL))
        lab = both.hub.lab
        branch = Site(lab, "branch", 3, IpsecBackend.KERNEL)
        join(lab.namespaces["wire"], branch.namespace, "branch", branch.gateway.address)
        branch.connect_host()
        for site in (both.hub, both.spoke):
            site.namespace.run("ip", "route", "flush", "root", "10.0.0.0/8", "proto", "boot")
        made = RoutedBed(both.hub, {"spoke": both.spoke, "branch": branch}, control, both.watched[0])
        made.route_in_clear()
        for site in made.sites:
            stack.callback(_print_kernel, site)
            stack.callback(site.guard.print_log)
            stack.push_async_callback(site.guard.stop)
        for agent in made.agents:
            stack.callback(agent.print_log)
            stack.push_async_callback(agent.stop)
        for site, agent in zip(
            made.sites, made.agents, strict=True
        ):  # one by one: each takes the emulated machine some seconds
            await site.gateway.start()
            await site.guard.start()
            await agent.enrol()
            await agent.start()
        yield made


async def test_two_routed_tunnels_do_not_collide_and_their_interfaces_leak_nothing(
    bed: RoutedBed, say: Callable[[str], None]
) -> None:
    await bed.control.publish(routed())
    await eventually(bed.has_interfaces, WAIT_S, "the interfaces of both tunnels", pause_s=PAUSE_S)
    bed.route_into_tunnels()
    await bed.up()
    for site in bed.sites:
        assert {it.if_id for it in kernel_policies(site.namespace)} <= {0, *IDS.values()}
        assert charon_routes(site.namespace) == []
    async with bed.traffic() as traffic:
        await traffic.answered()
        seen = traffic.seen()
        say(f"both up: {len(seen.clear)} in clear of {seen.sent} sent, {seen.answered} answered")
        # Both charons of one tunnel die: its interfaces drop what no SA carries. The other tunnel goes on.
        await asyncio.gather(bed.spokes["spoke"].gateway.stop(), bed.spokes["branch"].gateway.crash())
        await traffic.more(25)
        await bed.hub.gateway.crash()
        await traffic.more(25)
        for site in bed.sites:
            await site.gateway.start()
        await traffic.answered()
        seen = traffic.seen()
        say(
            f"charons stopped, killed, restarted: {len(seen.clear)} in clear of {seen.sent} sent, {seen.answered} answered"
        )
        traffic.assert_nothing_in_clear()
    async with bed.traffic() as traffic:
        await bed.control.publish(routed(enabled=False))
        await traffic.unanswered()
        await bed.control.publish()
        await traffic.more(25)
        assert await bed.has_interfaces()
        seen = traffic.seen()
        say(f"disabled, then deleted and kept: {len(seen.clear)} in clear of {seen.sent} sent")
        traffic.assert_nothing_in_clear()
    await bed.control.publish(routed(protect_after_delete=0))
    await bed.control.publish()
    for agent in bed.agents:
        await agent.run_to_end("release")
    await eventually(partial(has_none, bed), WAIT_S, "no interface", pause_s=PAUSE_S)
    async with bed.traffic() as traffic:  # the check can fail: without interfaces the ways in clear are used
        await traffic.answered()
        await traffic.clear(more_than=10)
        seen = traffic.seen()
        say(f"released: {len(seen.clear)} in clear of {seen.sent} sent")
