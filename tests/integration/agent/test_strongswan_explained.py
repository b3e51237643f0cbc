"""On two real charons: a cause is made, and explanation, metric label and event name it until it is gone."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from warren_agent.adapters.guard import GuardClient
from warren_agent.clocks import Clocks
from warren_agent.drivers.strongswan.connections import HandleName, build_connection
from warren_agent.health import TunnelHealth
from warren_agent.host import HostSurvey
from warren_agent.path_probe import PathProbe
from warren_agent.protection import Protection
from warren_agent.switches import HostSwitches
from warren_contracts.addresses import Endpoint
from warren_contracts.explanation import Cause
from warren_contracts.status import TunnelStatus
from warren_contracts.tunnel import Tunnel
from warren_lab.lab import Lab
from warren_lab.namespace import in_netns
from warren_lab.ping import Ping
from warren_testkit.agent.guard import GuardProcess
from warren_testkit.intent import STAR
from warren_testkit.lab.agents import LocalAgent, gateway_record
from warren_testkit.lab.explained import Explained
from warren_testkit.lab.gateways import Gateway
from warren_testkit.lab.vici_control import Vici
from warren_testkit.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.interop]

NAME = "hub+spoke"
LIMIT = 60.0  # s
FAST = Clocks(monotonic=lambda: time.monotonic() * 30)  # intervals of 10 s take a third of a second

Health = Callable[[], TunnelHealth]


def plain() -> TunnelHealth:
    return TunnelHealth(Clocks())


@contextlib.asynccontextmanager
async def at_work(
    both: tuple[Gateway, Gateway], at_hub: Health = plain, at_spoke: Health = plain, policy: dict[str, Any] = STAR,
    protection: Protection | None = None,
) -> AsyncIterator[Explained]:  # fmt: skip
    """What is known of the tunnel between both agents at work."""
    async with agents_at_work(both, at_hub, at_spoke, policy, protection) as agents:
        yield Explained(NAME, policy, *agents)


@contextlib.asynccontextmanager
async def agents_at_work(
    both: tuple[Gateway, Gateway], at_hub: Health = plain, at_spoke: Health = plain, policy: dict[str, Any] = STAR,
    protection: Protection | None = None,
) -> AsyncIterator[tuple[LocalAgent, LocalAgent]]:  # fmt: skip
    """Both agents with a policy, the spoke's with this protection."""
    records = [gateway_record(both[0], "hub"), gateway_record(both[1], "branch")]
    hub = LocalAgent(both[0], records, report_interval=0.3, health=at_hub)
    spoke = LocalAgent(both[1], records, report_interval=0.3, health=at_spoke, protection=protection)
    await asyncio.gather(hub.start(), spoke.start())
    try:
        for agent in (hub, spoke):
            agent.give(policy)
        yield hub, spoke
    finally:
        await asyncio.gather(hub.stop(), spoke.stop())


@contextlib.contextmanager
def filtered(gateway: Gateway, *rules: str) -> Iterator[None]:
    """The gateway's packet filter drops what arrives and matches."""
    run = gateway.namespace.run
    run("nft", "add table inet blocked; add chain inet blocked in { type filter hook input priority 0 ; }")
    for rule in rules:
        run("nft", f"add rule inet blocked in {rule} drop")
    try:
        yield
    finally:
        run("nft", "delete table inet blocked")


@pytest.mark.parametrize(
    ("port", "cause", "words"),
    [
        (500, Cause.BLOCKED_UDP_500, "spoke gets no answer to IKE_SA_INIT from hub (192.0.2.1)"),
        (4500, Cause.BLOCKED_UDP_4500, "hub (192.0.2.1) answers IKE_SA_INIT of spoke and then nothing"),
    ],
)
async def test_a_blocked_port(both: tuple[Gateway, Gateway], port: int, cause: Cause, words: str) -> None:
    policy = {**STAR, "options": {"ike": {"encap": True}}}
    with contextlib.ExitStack() as blocked:
        blocked.enter_context(filtered(both[0], f"udp dport {port}"))
        async with at_work(both, policy=policy) as explained:
            await explained.concludes(cause, words, f"Allow UDP {'500 and 4500' if port == 500 else port}")
            blocked.close()
            await explained.is_up()


async def test_bytes_in_one_direction_only(both: tuple[Gateway, Gateway]) -> None:
    def watching() -> TunnelHealth:
        return TunnelHealth(Clocks(), one_way_after=2.0)

    hub, spoke = both
    async with at_work(both, watching, watching) as explained:
        await explained.is_up()
        with Ping(spoke.namespace, IPv4Address(spoke.protected), IPv4Address(hub.protected), 0.1) as ping:
            await eventually(lambda: ping.counts().received > 3, LIMIT)
            spoke.drop_esp("wan")
            await explained.concludes(Cause.ONE_WAY_TRAFFIC, "spoke sees packets in one direction only", "none arrive")
            spoke.pass_esp()
            await explained.is_up()


async def test_several_sas_of_one_child(both: tuple[Gateway, Gateway]) -> None:
    """A second connection by hand, as of a configuration that somebody forgot; the clock of the assessment is a minute ahead."""
    spoke = both[1]
    ahead = Clocks(now=lambda: datetime.now(UTC) + timedelta(minutes=1))
    async with agents_at_work(both, at_hub=lambda: TunnelHealth(ahead)) as (at_hub, at_spoke):
        explained = Explained(NAME, STAR, at_hub, at_spoke)
        await explained.is_up()
        record = at_spoke.driver._records[NAME]
        assert record.config is not None
        other = HandleName("by-hand", record.desired.connection.generation + 5)
        child = HandleName("by-hand", other.generation, record.config.link.children[0].name)
        built = build_connection(record.config, other, [child], await at_spoke.driver._charon.abilities())
        await at_spoke.stop()  # it would close what it does not know
        await at_spoke.driver._charon.load_connection(built)
        Vici(spoke.charon).initiate(str(other), str(child))
        await explained.concludes(Cause.DUPLICATE_SAS, "hub holds more CHILD_SAs than the tunnel has children", "2 of")
        Vici(spoke.charon).terminate(str(other))
        await explained.is_up()
        await at_spoke.driver._charon.close()


async def test_large_packets_that_get_lost(both: tuple[Gateway, Gateway]) -> None:
    hub, spoke = both
    spoke.allow_echoes()
    probe = PathProbe([ip_address(hub.protected)], FAST, spoke.echo_socket)
    async with at_work(both, at_spoke=lambda: TunnelHealth(Clocks(), probe=probe)) as explained:
        await explained.is_up()
        with filtered(hub, "udp dport 4500 meta length > 1250"):
            await explained.concludes(
                Cause.PATH_MTU, "Large packets between spoke and hub do not pass", "1280 bytes", "MSS to 1060"
            )
        await explained.is_up()
    probe.close()


class OfNamespace:
    """The switches of a gateway's namespace, while the agent runs in the test's."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._switches = gateway, HostSwitches(["ipsec0"], FAST.monotonic)

    def findings(self, config: Tunnel, status: TunnelStatus) -> Iterable[Any]:
        return in_netns(self._gateway.namespace.path, lambda: list(self._switches.findings(config, status)))


async def test_forwarding_that_is_off(both: tuple[Gateway, Gateway]) -> None:
    hub = both[0]
    hub.namespace.enable_forwarding()
    async with at_work(both, at_hub=lambda: TunnelHealth(Clocks(), (OfNamespace(hub),))) as explained:
        await explained.is_up()
        hub.namespace.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")
        await explained.concludes(Cause.FORWARDING_OFF, "hub does not forward", "sysctl -w net.ipv4.ip_forward=1")
        hub.namespace.enable_forwarding()
        await explained.is_up()


async def test_masquerade_in_front_of_the_tunnel(both: tuple[Gateway, Gateway]) -> None:
    spoke = both[1]
    guard = GuardProcess(spoke.namespace, spoke.folder)
    await guard.start("--masquerade", "report")
    try:
        protection = Protection(GuardClient(guard.socket, lambda: 0.0), LocalAgent.devices)
        health = lambda: TunnelHealth(Clocks(), (protection,))  # noqa: E731
        async with at_work(both, at_spoke=health, protection=protection) as explained:
            spoke.namespace.enable_forwarding()
            await explained.is_up()
            run = spoke.namespace.run
            run("nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }")
            run("nft", "add rule ip nat post masquerade")
            await explained.concludes(
                Cause.MASQUERADE, "Source NAT on spoke changes packets", "chain ip nat post", "keep_sources"
            )
            run("nft", "delete table ip nat")
            await explained.is_up()
    finally:
        await guard.stop()


async def test_a_nat_that_forgets_its_mapping(lab: Lab) -> None:
    """The NAT in front of the spoke is started again, and has no mapping for what the hub sends."""
    hub, spoke, nat = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2), lab.namespace("nat")
    public, spoke.address = "192.0.2.254", "192.168.9.2"
    lab.link(hub.namespace, "wan", f"{hub.address}/24", nat, "wan", f"{public}/24")
    lab.link(spoke.namespace, "wan", f"{spoke.address}/24", nat, "lan", "192.168.9.1/24")
    spoke.namespace.add_default_route("192.168.9.1")
    nat.enable_forwarding()
    nat.run("nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }")
    nat.run("nft", "add rule ip nat post oifname wan masquerade")
    await asyncio.gather(hub.start(), spoke.start())
    announced = (Endpoint(ip_address(public)),)
    records = [
        gateway_record(hub, "hub"),
        gateway_record(spoke, "branch").model_copy(update={"endpoints": announced}),
    ]

    class BehindNat(LocalAgent):
        survey = HostSurvey(announced, FAST.monotonic, owns=lambda address: str(address) == spoke.address)

    policy = {**STAR, "options": {"ike": {"dpd_delay": 2}}}
    agents = LocalAgent(hub, records, report_interval=0.3), BehindNat(spoke, records, report_interval=0.3)
    await asyncio.gather(*(agent.start() for agent in agents))
    try:
        explained = Explained(NAME, policy, *agents)
        for agent in agents:
            agent.give(policy)
        await explained.is_up()
        nat.run("nft", "add table ip forgets; add chain ip forgets through { type filter hook forward priority 0 ; }")
        nat.run("nft", "add rule ip forgets through udp dport 4500 drop")
        await explained.concludes(Cause.NAT_MAPPING_LOST, "spoke is behind NAT", "On spoke: keepalives must be on")
        nat.run("nft", "delete table ip forgets")
        await explained.is_up()
    finally:
        await asyncio.gather(*(agent.stop() for agent in agents))
