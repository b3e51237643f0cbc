"""A filter drops ESP and lets IKE pass: the path probe finds it, and another gateway or address carries the traffic.

Frames are counted on the spoke's links meanwhile: none is in clear, although each gateway has a route in clear to the other site.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest

from warren_agent.adapters.guard import GuardClient
from warren_agent.protection import Protection
from warren_contracts.addresses import Endpoint
from warren_contracts.peers import PeerRecord
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_lab.capture import Capture
from warren_lab.lab import Lab, can_make_namespaces
from warren_lab.ping import Ping
from warren_testkit.agent.guard import GuardProcess
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.timeout(300)]

HOLD_DOWN = 2.0  # s
LIMIT = 90.0  # s, on a busy machine
STAR = {"id": "star", "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]}}


@pytest.fixture
def lab() -> Iterator[Lab]:
    if not can_make_namespaces():
        pytest.skip("needs root or a user namespace with capabilities")
    with Lab("wf") as made:
        yield made


class Bed:
    """Guarded gateways with real charons, and pings from the spoke to the hub's network."""

    def __init__(self, gateways: list[Gateway], records: list[PeerRecord]) -> None:
        self.guards = [GuardProcess(it.namespace, it.folder) for it in gateways]
        self.agents = [
            LocalAgent(
                gateway, records, hold_down=HOLD_DOWN,
                protection=Protection(GuardClient(guard.socket, lambda: 0.0), ("ipsec0",)),
            )
            for gateway, guard in zip(gateways, self.guards, strict=True)
        ]  # fmt: skip
        self.spoke = next(it for it in self.agents if it.gateway.name == "spoke")
        self.target = IPv4Address(gateways[0].protected)
        self.seen: list[set[tuple[str, str]]] = []  # what carried traffic, at every look
        self.inner = frozenset({self.target, IPv4Address(self.spoke.gateway.protected)})

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Traffic"]:
        """Everything at work; traffic is watched on both links of the spoke from before the first tunnel."""
        async with contextlib.AsyncExitStack() as stack:
            for guard in self.guards:
                await guard.start()
                stack.push_async_callback(guard.stop)
            for agent in self.agents:
                agent.gateway.allow_echoes()
                await agent.gateway.start()
                await agent.start()
                stack.push_async_callback(agent.stop)
                await agent.applied(agent.give(STAR))
            namespace = self.spoke.gateway.namespace
            captures = [stack.enter_context(Capture(namespace, device, self.inner)) for device in ("wan1", "wan2")]
            ping = Ping(namespace, IPv4Address(self.spoke.gateway.protected), self.target, 0.02)
            stack.enter_context(ping)
            yield Traffic(captures, ping)

    async def carrying(self) -> set[tuple[str, str]]:
        """The tunnels and the addresses of the other ends of all IKE_SAs that carry traffic at the spoke."""
        found = {
            (sa.handle.tunnel, sa.remote_host)
            for sa in await self.spoke.gateway.ike_sas()
            if sa.handle is not None and any(child.state == "INSTALLED" for child in sa.children)
        }
        self.seen.append(found)
        return found

    def assert_never_two_tunnels(self) -> None:
        assert len(self.seen) > 50
        assert [tunnels for looked in self.seen if len(tunnels := {tunnel for tunnel, _ in looked}) > 1] == []

    async def only(self, tunnel: str, address: str) -> None:
        """Wait until exactly one tunnel, to one address, carries traffic."""

        async def is_only() -> bool:
            return await self.carrying() == {(tunnel, address)}

        await eventually(is_only, LIMIT, f"{tunnel} by {address} only")

    def last(self, tunnel: str) -> TunnelChange | None:
        return next((it for it in reversed(self.spoke.all(TunnelChange)) if it.status.name == tunnel), None)

    async def shows(self, tunnel: str, state: TunnelState, reason: ReasonCode = ReasonCode.NONE) -> None:
        def is_shown() -> bool:
            change = self.last(tunnel)
            return change is not None and (change.status.state, change.status.reason) == (state, reason)

        await eventually(is_shown, LIMIT, f"{tunnel} {state.value}")


class Traffic:
    """Running pings, and what was seen of them."""

    def __init__(self, captures: list[Capture], ping: Ping) -> None:
        self._captures, self._ping = captures, ping

    async def answered(self) -> None:
        """Until requests that are sent from now on are answered."""
        assert await asyncio.to_thread(self._ping.wait_for_reply, LIMIT, time.time()) is not None

    def longest_gap(self, since: float) -> float:
        """Seconds between the first lost request of the longest loss and the next one that was answered."""
        longest, first_lost = 0.0, None
        for echo in [it for it in self._ping.echoes() if it.sent >= since]:
            if echo.received is None:
                first_lost = first_lost or echo.sent
            elif first_lost is not None:
                longest, first_lost = max(longest, echo.sent - first_lost), None
        return longest

    def assert_nothing_in_clear(self) -> None:
        assert self._ping.counts().received > 50
        assert [packet for capture in self._captures for packet in capture.clear_packets()] == []


def route(gateway: Gateway, network: str, via: str, device: str) -> None:
    """A way in clear, which whatever is not protected would take."""
    gateway.namespace.run("ip", "route", "replace", network, "via", via, "dev", device)


async def test_a_standby_gateway_takes_over_when_only_esp_is_dropped_and_gives_back_after_the_hold_down(
    lab: Lab,
) -> None:
    first, spoke, second = Gateway(lab, "hub-1", 1), Gateway(lab, "spoke", 2), Gateway(lab, "hub-2", 3)
    second.address, second.network, second.protected = "198.51.100.3", first.network, first.protected
    second.add_address(f"{first.protected}/24")
    lab.link(first.namespace, "wan", "192.0.2.1/24", spoke.namespace, "wan1", "192.0.2.2/24")
    lab.link(second.namespace, "wan", "198.51.100.3/24", spoke.namespace, "wan2", "198.51.100.2/24")
    route(spoke, first.network, first.address, "wan1")
    route(first, spoke.network, "192.0.2.2", "wan")
    route(second, spoke.network, "198.51.100.2", "wan")
    no_address: dict[str, Any] = {"endpoints": ()}
    records = [
        gateway_record(first, "hub").model_copy(update={"priority": 200}),
        gateway_record(spoke, "branch").model_copy(update=no_address),
        gateway_record(second, "hub").model_copy(update={"priority": 100, "subnets": (ip_network(first.network),)}),
    ]
    bed = Bed([first, spoke, second], records)
    async with bed.running() as traffic:
        await bed.only("hub-1+spoke", first.address)
        await traffic.answered()
        await bed.shows("hub-2+spoke", TunnelState.STANDBY)
        since = time.time()
        first.drop_esp("wan")
        await bed.only("hub-2+spoke", second.address)
        await traffic.answered()
        print(f"to the standby gateway in {traffic.longest_gap(since):.2f} s")
        await bed.shows("hub-1+spoke", TunnelState.DOWN, ReasonCode.PATH_PROBE_FAILED)
        first.pass_esp()
        await bed.only("hub-1+spoke", first.address)
        await traffic.answered()
        await bed.shows("hub-2+spoke", TunnelState.STANDBY)
        traffic.assert_nothing_in_clear()
        bed.assert_never_two_tunnels()


async def test_the_second_address_of_a_peer_is_used_when_only_esp_to_the_first_is_dropped(lab: Lab) -> None:
    hub, spoke = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2)
    lab.link(hub.namespace, "wan1", "192.0.2.1/24", spoke.namespace, "wan1", "192.0.2.2/24")
    lab.link(hub.namespace, "wan2", "198.51.100.1/24", spoke.namespace, "wan2", "198.51.100.2/24")
    hub.more_addresses = ("198.51.100.1",)
    route(spoke, hub.network, "192.0.2.1", "wan1")
    route(hub, spoke.network, "192.0.2.2", "wan1")
    addresses = tuple(Endpoint(ip_address(it)) for it in ("192.0.2.1", "198.51.100.1"))
    no_address: dict[str, Any] = {"endpoints": ()}
    records = [
        gateway_record(hub, "hub").model_copy(update={"endpoints": addresses}),
        gateway_record(spoke, "branch").model_copy(update=no_address),
    ]
    bed = Bed([hub, spoke], records)
    async with bed.running() as traffic:
        await bed.only("hub+spoke", "192.0.2.1")
        await traffic.answered()
        since = time.time()
        hub.drop_esp("wan1")
        await bed.only("hub+spoke", "198.51.100.1")
        await traffic.answered()
        print(f"to the second address in {traffic.longest_gap(since):.2f} s")
        hub.pass_esp()
        await bed.only("hub+spoke", "192.0.2.1")
        await traffic.answered()
        traffic.assert_nothing_in_clear()
