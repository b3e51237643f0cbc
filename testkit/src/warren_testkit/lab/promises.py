"""Two guarded sites, and traffic between their networks that must never be seen in clear on the WAN.

Each site has a gateway (charon, guard, agent) and a host behind it. Without IPsec the two networks reach each other in clear:
each gateway has a route to the other's network. So whatever is not protected is seen.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, ip_network

from warren_agent.adapters.guard import GuardClient
from warren_agent.drivers.port import DaemonUp
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_contracts.guard import HeldRequest, HeldState
from warren_contracts.policy import PublishedPolicy
from warren_intent.expand import expand
from warren_lab.capture import Capture
from warren_lab.charon_conf import IpsecBackend
from warren_lab.lab import Lab
from warren_lab.namespace import Namespace
from warren_lab.ping import Ping
from warren_testkit.agent.control import Control
from warren_testkit.agent.guard import GuardProcess
from warren_testkit.agent.process import GatewayAgent
from warren_testkit.lab.gateways import Gateway
from warren_testkit.lab.kernel import join, make_wire
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, read_seed

INTERVAL_S = 0.02  # 50 pings a second and direction
EMULATED_INTERVAL_S = 0.1  # on the emulated machine of `make test-kernel`
REPLY_LIMIT_S = 120.0
PART_OF_SPOKE = "10.2.0.0/29"  # the gateway, and not the host behind it


def _protects(site: "Site", network: str) -> bool:
    return network in site.guard.table()


class Site:
    """A gateway, the host `.10` of its network behind it, its guard and its agent."""

    def __init__(self, lab: Lab, name: str, number: int, plane: IpsecBackend) -> None:
        self.gateway = Gateway(lab, name, number, plane=plane)
        self.guard = GuardProcess(self.gateway.namespace, self.gateway.folder)
        self.host = lab.namespace(f"{name}-lan")
        self.host_address = f"10.{number}.0.10"
        self.lab = lab

    @property
    def namespace(self) -> Namespace:
        """The gateway's."""
        return self.gateway.namespace

    def connect_host(self) -> None:
        """Join the host to the gateway, which routes for it."""
        own = f"{self.gateway.protected}/24"
        self.namespace.run("ip", "address", "del", own, "dev", "lo")  # there the whole network would be local
        self.lab.link(self.host, "lan", f"{self.host_address}/24", self.namespace, "lan", own)
        self.host.add_default_route(self.gateway.protected)
        self.namespace.enable_forwarding()

    def route_to(self, peer: "Site") -> None:
        """The way in clear to the other network."""
        self.namespace.run("ip", "route", "replace", peer.gateway.network, "via", peer.gateway.address, "dev", "wan")


@dataclass
class Sites:
    """Both, and where the frames between them are counted."""

    hub: Site
    spoke: Site
    watched: tuple[tuple[Namespace, str], ...]  # namespaces and their devices


@dataclass
class Seen:
    """What was counted while traffic ran."""

    sent: int = 0
    answered: int = 0
    frames: int = 0
    clear: list[str] = field(default_factory=list)


class PromiseBed:
    """Both sites, and the control plane of their agents."""

    def __init__(self, both: Sites, control: Control, interval_s: float = INTERVAL_S) -> None:
        self.hub, self.spoke, self.control = both.hub, both.spoke, control
        hub, spoke = both.hub, both.spoke
        self._watched, self._interval_s = both.watched, interval_s
        more = [site.guard.environment for site in (hub, spoke)]
        self.agents = (
            GatewayAgent(hub.gateway, control, more=more[0]),
            GatewayAgent(spoke.gateway, control, more=more[1]),
        )

    @property
    def sites(self) -> tuple[Site, Site]:
        return self.hub, self.spoke

    @property
    def inner(self) -> frozenset[IPv4Address]:
        """The addresses that must not be seen."""
        return frozenset(
            IPv4Address(text) for site in self.sites for text in (site.gateway.protected, site.host_address)
        )

    def pings(self) -> list[Ping]:
        """From each gateway and from each host, to the other site."""
        found = []
        for site, peer in ((self.hub, self.spoke), (self.spoke, self.hub)):
            for namespace, source, target in (
                (site.namespace, site.gateway.protected, peer.gateway.protected),
                (site.host, site.host_address, peer.host_address),
            ):
                found.append(Ping(namespace, IPv4Address(source), IPv4Address(target), self._interval_s, 0.0))
        return found

    @contextlib.asynccontextmanager
    async def traffic(self) -> AsyncIterator["Traffic"]:
        """Traffic in both directions, of gateways and hosts, watched on the WAN link of both gateways."""
        captures = [Capture(namespace, device, self.inner) for namespace, device in self._watched]
        for site, peer in ((self.hub, self.spoke), (self.spoke, self.hub)):  # after a source NAT
            translated = frozenset(map(IPv4Address, (site.gateway.address, peer.gateway.protected, peer.host_address)))
            captures += [Capture(namespace, device, translated) for namespace, device in self._watched]
        pings = self.pings()
        with contextlib.ExitStack() as stack:
            for capture in captures:
                stack.enter_context(capture)
            for ping in pings:
                stack.enter_context(ping)
            running = Traffic(captures, pings)
            await running.more()
            yield running
            await running.more()

    async def ready(self) -> None:
        """Start everything and enrol both agents; nothing is published yet."""
        await asyncio.gather(*(site.gateway.start() for site in self.sites))
        await asyncio.gather(*(site.guard.start() for site in self.sites))
        await asyncio.gather(*(agent.enrol() for agent in self.agents))
        await asyncio.gather(*(agent.start() for agent in self.agents))

    def route(self) -> None:
        """The ways in clear, again."""
        for site, peer in ((self.hub, self.spoke), (self.spoke, self.hub)):
            site.route_to(peer)

    async def guarded(self, network: str = "10.2.0.0/24") -> None:
        """Wait until both guards protect this network of the spoke."""
        for site in self.sites:
            await eventually(partial(_protects, site, network), REPLY_LIMIT_S, "a table with protected traffic")

    async def held_states(self) -> set[HeldState]:
        """The states of everything that the guards hold."""
        replies = [await GuardClient(site.guard.socket, lambda: 0.0).ask(HeldRequest()) for site in self.sites]
        return {held.state for reply in replies for held in reply.held}

    async def has_states(self, wanted: set[HeldState]) -> None:
        """Wait until the guards hold something in these states, and nothing else; an empty set: nothing at all."""

        async def reached() -> bool:
            return await self.held_states() == wanted

        await eventually(reached, REPLY_LIMIT_S, f"states {wanted}")

    @contextlib.asynccontextmanager
    async def narrowed_hub(self, published: PublishedPolicy) -> AsyncIterator[None]:
        """As after an administrator's edit: the hub's charon has the tunnel with a part of the spoke's network.

        The hub's agent is stopped for it; its charon loses what it had.
        """
        agent, gateway = self.agents[0], self.hub.gateway
        await agent.stop()
        await gateway.stop()
        await gateway.start()
        record = self.control.records["spoke"].model_copy(update={"subnets": (ip_network(PART_OF_SPOKE),)})
        (part,) = expand([published], self.control.records | {"spoke": record}, "hub")
        key = read_seed(agent.state / "ike.seed", KeyKind.SIGNING)
        driver = StrongswanDriver(
            StrongswanPaths(gateway.vici, None), bytes(key.signing_key), Ledger(gateway.folder / "by-hand.json"),
            owns=lambda address: str(address) == gateway.address,
        )  # fmt: skip
        await driver.initialize()
        events = driver.events()
        async for event in events:
            if isinstance(event, DaemonUp):
                break
        await driver.create_tunnel(part)
        try:
            yield
        finally:
            await driver.cleanup()

    async def stop(self) -> None:
        """Stop agents and guards."""
        await asyncio.gather(*(agent.stop() for agent in self.agents))
        await asyncio.gather(*(site.guard.stop() for site in self.sites))

    async def boot(self) -> None:
        """As after a boot: the kernel has no table, the network comes up after the guard, and neither charon nor agent run yet."""
        await self.stop()
        await asyncio.gather(*(site.gateway.stop() for site in self.sites))
        for site in self.sites:
            site.namespace.run("ip", "link", "set", "wan", "down")
            site.namespace.run("nft", "flush", "ruleset")
            assert site.guard.table() == ""
            await site.guard.start()
            site.namespace.run("ip", "link", "set", "wan", "up")
        self.route()

    def print_logs(self) -> None:
        """For the report of a test that failed."""
        for agent in self.agents:
            agent.print_log()
        for site in self.sites:
            site.guard.print_log()


class Traffic:
    """Running traffic and what was seen of it."""

    def __init__(self, captures: list[Capture], pings: list[Ping]) -> None:
        self._captures, self._pings = captures, pings

    def seen(self, since: float = 0.0) -> Seen:
        """So far; in clear only what was sent at or after `since` (Unix time)."""
        counts = [ping.counts() for ping in self._pings]
        clear = [
            f"{packet.source} > {packet.destination} at {packet.time:.3f}"
            for capture in self._captures
            for packet in capture.clear_packets()
            if packet.time >= since
        ]
        frames = sum(capture.frames for capture in self._captures)
        return Seen(sum(it.sent for it in counts), sum(it.received for it in counts), frames, clear)

    async def more(self, count: int = 25) -> None:
        """Until every ping has sent so many more requests."""
        wanted = [ping.counts().sent + count for ping in self._pings]
        await eventually(
            lambda: all(ping.counts().sent >= it for ping, it in zip(self._pings, wanted, strict=True)), what="requests"
        )

    async def answered(self) -> None:
        """Until every ping is answered: three of its requests that are sent from now on."""
        before = [ping.counts().sent for ping in self._pings]
        await eventually(
            lambda: all(ping.answered_from(it) > 2 for ping, it in zip(self._pings, before, strict=True)),
            REPLY_LIMIT_S,
            "replies",
        )

    async def clear(self, more_than: int = 0) -> list[str]:
        """What is in clear so far; wait until it is more than `more_than` packets: they are counted a moment after they passed."""
        await eventually(lambda: len(self.seen().clear) > more_than, what=f"more than {more_than} packets in clear")
        return self.seen().clear

    async def unanswered(self) -> None:
        """Until no ping is answered any more."""

        async def quiet() -> bool:
            before = [ping.counts().received for ping in self._pings]
            await self.more(10)
            return before == [ping.counts().received for ping in self._pings]

        await eventually(quiet, REPLY_LIMIT_S, "no replies")

    def assert_nothing_in_clear(self) -> None:
        """AssertionError with the first packets that were seen, or if nothing was sent."""
        seen = self.seen()
        assert seen.sent > 0
        assert seen.clear == [], f"{len(seen.clear)} packets in clear of {seen.sent} sent: {seen.clear[:5]}"


@contextlib.contextmanager
def sites(plane: IpsecBackend = IpsecBackend.LIBIPSEC) -> Iterator[Sites]:
    """The hub's and the spoke's site, charons not started."""
    with Lab("wp") as lab:
        hub, spoke = Site(lab, "hub", 1, plane), Site(lab, "spoke", 2, plane)
        watched: tuple[tuple[Namespace, str], ...]
        if plane is IpsecBackend.KERNEL:
            wire = lab.namespace("wire")
            make_wire(wire)
            for site in (hub, spoke):
                join(wire, site.namespace, site.gateway.name, site.gateway.address)
            watched = ((wire, hub.gateway.name),)  # every frame between the two passes it
        else:
            ends = [(it.namespace, "wan", f"{it.gateway.address}/24") for it in (hub, spoke)]
            lab.link(*ends[0], *ends[1])
            watched = tuple((site.namespace, "wan") for site in (hub, spoke))
        for site, peer in ((hub, spoke), (spoke, hub)):
            site.connect_host()
            site.route_to(peer)
        yield Sites(hub, spoke, watched)


async def open_bed(stack: contextlib.AsyncExitStack, control: Control, plane: IpsecBackend) -> PromiseBed:
    """A bed whose agents are enrolled; the stack takes it down."""
    both = stack.enter_context(sites(plane))
    interval = EMULATED_INTERVAL_S if plane is IpsecBackend.KERNEL else INTERVAL_S
    bed = PromiseBed(both, control, interval)
    stack.callback(bed.print_logs)
    stack.push_async_callback(bed.stop)
    await bed.ready()
    return bed
