"""Gateways of which one takes over for another: guarded agents in the test's process, and pings from a spoke to a hub's network.

Each gateway has a route in clear to the other site, so what is not protected is seen on the links that are watched.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from ipaddress import IPv4Address

from warren_agent.adapters.guard import GuardClient
from warren_agent.protection import Protection
from warren_contracts.peers import PeerRecord
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_lab.capture import Capture
from warren_lab.namespace import Namespace
from warren_lab.ping import Ping
from warren_testkit.agent.guard import GuardProcess
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent
from warren_testkit.lab.gateways import Gateway
from warren_testkit.waiting import eventually

HOLD_DOWN = 2.0  # s
REPLIES = 20


class FailoverBed:
    """Guarded gateways with real charons, and pings from the spoke to the hub's network."""

    def __init__(
        self,
        gateways: Sequence[Gateway],
        records: Sequence[PeerRecord],
        watched: Sequence[tuple[Namespace, str]],
        *,
        agent: type[LocalAgent] = LocalAgent,
        interval_s: float = 0.02,
        limit_s: float = 90.0,
    ) -> None:
        """`watched` are devices that see all frames between the spoke and the others; `limit_s` is of each wait."""
        self.guards = [GuardProcess(it.namespace, it.folder) for it in gateways]
        self.agents = [
            agent(
                gateway, records, hold_down=HOLD_DOWN,
                protection=Protection(GuardClient(guard.socket, lambda: 0.0), agent.devices),
            )
            for gateway, guard in zip(gateways, self.guards, strict=True)
        ]  # fmt: skip
        self.spoke = next(it for it in self.agents if it.gateway.name == "spoke")
        self.target = IPv4Address(gateways[0].protected)
        self.seen: list[set[tuple[str, str]]] = []  # what carried traffic, at every look
        self.inner = frozenset({self.target, IPv4Address(self.spoke.gateway.protected)})
        self._watched, self._interval_s, self._limit_s = watched, interval_s, limit_s

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["FailoverTraffic"]:
        """Everything at work; traffic is watched on both links of the spoke from before the first tunnel."""
        async with contextlib.AsyncExitStack() as stack:
            for guard in self.guards:
                await guard.start()
                stack.push_async_callback(guard.stop)
            for agent in self.agents:
                agent.gateway.allow_echoes()
                await agent.start_daemon()
                await agent.start()
                stack.push_async_callback(agent.stop)
                await agent.applied(agent.give(STAR))
            captures = [stack.enter_context(Capture(*it, self.inner)) for it in self._watched]
            spoke = self.spoke.gateway
            ping = Ping(spoke.namespace, IPv4Address(spoke.protected), self.target, self._interval_s, 0.0)
            stack.enter_context(ping)
            yield FailoverTraffic(captures, ping, self._limit_s)

    async def carrying(self) -> set[tuple[str, str]]:
        """The tunnels and the addresses of the other ends of all IKE_SAs that carry traffic at the spoke."""
        found = await self.spoke.carrying()
        self.seen.append(found)
        return found

    def assert_never_two_tunnels(self) -> None:
        assert any(len(looked) == 1 for looked in self.seen)
        assert [tunnels for looked in self.seen if len(tunnels := {tunnel for tunnel, _ in looked}) > 1] == []

    async def only(self, tunnel: str, address: str) -> None:
        """Wait until exactly one tunnel, to one address, carries traffic."""

        async def is_only() -> bool:
            return await self.carrying() == {(tunnel, address)}

        await eventually(is_only, self._limit_s, f"{tunnel} by {address} only")

    async def shows(
        self, tunnel: str, state: TunnelState, reason: ReasonCode = ReasonCode.NONE, at: str = "spoke"
    ) -> None:
        """Wait until the agent of a gateway reports a tunnel like this."""
        agent = next(it for it in self.agents if it.gateway.name == at)

        def is_shown() -> bool:
            change = next((it for it in reversed(agent.all(TunnelChange)) if it.status.name == tunnel), None)
            return change is not None and (change.status.state, change.status.reason) == (state, reason)

        await eventually(is_shown, self._limit_s, f"{tunnel} {state.value}")


class FailoverTraffic:
    """Running pings, and what was seen of them."""

    def __init__(self, captures: list[Capture], ping: Ping, limit_s: float) -> None:
        self._captures, self._ping, self._limit_s = captures, ping, limit_s

    async def answered(self) -> None:
        """Until twenty requests that are sent from now on are answered, however fast the machine is."""
        for _ in range(REPLIES):
            assert await asyncio.to_thread(self._ping.wait_for_reply, self._limit_s, time.time()) is not None

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
        assert self._ping.counts().received >= REPLIES
        assert [packet for capture in self._captures for packet in capture.clear_packets()] == []

    def summary(self) -> str:
        """Pings, and frames in clear."""
        counts = self._ping.counts()
        clear = sum(len(list(capture.clear_packets())) for capture in self._captures)
        return f"{clear} in clear of {counts.sent} sent, {counts.received} answered"
