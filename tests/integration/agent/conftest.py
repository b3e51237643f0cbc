"""Two gateways in network namespaces, joined by a veth pair, each with a charon of its own and a protected address."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from warren_agent.drivers.port import DaemonUp, DriverEvent, TunnelChanged
from warren_agent.drivers.strongswan.charon import Charon as Vici
from warren_agent.drivers.strongswan.convergence import Termination
from warren_agent.drivers.strongswan.driver import StrongswanDriver, StrongswanPaths
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.sas import IkeSa
from warren_agent.testing.control import Control
from warren_agent.testing.process import AgentProcess, join_token
from warren_bus.testing import GrantingCallout, RealServer
from warren_cli.lab import Lab
from warren_cli.lab.charon_conf import charon_settings
from warren_cli.lab.lab import can_make_namespaces
from warren_contracts.tunnel import TunnelConfig

# strongSwan 6.0.1 and 6.1: before and after VICI's `alert` (6.0.3)
OTHER_SUITES = ("trixie", "sid")
# Retransmissions after 1, 1.8 and 3.2 s: a dead peer is given up within the time of a test.
IMPATIENT = charon_settings(extra={"charon": {"retransmit_timeout": "1.0", "retransmit_tries": "2"}})


async def eventually(read: Callable[[], Awaitable[object]], within: float = 20.0) -> object:
    """Read until the answer is true; TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while True:
            answer = await read()
            if answer:
                return answer
            await asyncio.sleep(0.02)


class Gateway:
    """One namespace with a charon; its VICI socket and its log are files that the test can reach."""

    def __init__(self, lab: Lab, name: str, number: int, root: Path | None = None) -> None:
        self.name, self.address, self.protected = name, f"192.0.2.{number}", f"10.{number}.0.1"
        self.namespace = lab.namespace(name)
        self.add_address(f"{self.protected}/24")
        self._lab, self._root = lab, root
        self.charon = lab.charon(self.namespace, IMPATIENT, root)
        self.folder = lab.folder / name
        self.vici = self.charon.vici_path

    @property
    def log(self) -> str:
        return self.charon.log()

    async def start(self) -> None:
        await asyncio.to_thread(self.charon.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self.charon.stop)

    def lose_plugin(self, plugin: str) -> None:
        """The next charon that is started here has no such plugin."""
        load = " ".join(word for word in str(IMPATIENT["charon"]["load"]).split() if word != plugin)
        settings = charon_settings(extra={"charon": {**IMPATIENT["charon"], "load": load}})
        self.charon = self._lab.charon(self.namespace, settings, self._root)

    def add_address(self, address: str) -> None:
        self.namespace.add_address("lo", ip_interface(address))

    async def ping(self, target: str, count: int = 3) -> bool:
        command = self.namespace.argv(["ping", "-q", "-n", "-c", str(count), "-i", "0.05", "-W", "2"])
        process = await asyncio.create_subprocess_exec(*command, "-I", self.protected, target, stdout=-3)
        return await process.wait() == 0

    async def ike_sas(self) -> list[IkeSa]:
        """What charon itself holds."""
        charon = Vici(self.vici)
        try:
            return await charon.sas()
        finally:
            await charon.close()

    async def close_ike_sas(self) -> None:
        """Say goodbye to every peer, as an operator would by hand."""
        charon = Vici(self.vici)
        try:
            for sa in await charon.sas():
                await charon.terminate(Termination("ike", sa.unique_id))
        finally:
            await charon.close()

    async def has(self, ike_sas: int, children: int = 1) -> None:
        """Wait until charon holds so many IKE_SAs, each with so many CHILD_SAs that carry traffic."""

        async def looks_right() -> bool:
            found = [len([it for it in sa.children if it.state == "INSTALLED"]) for sa in await self.ike_sas()]
            return found == [children] * ike_sas

        await eventually(looks_right, 40)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked `strongswans` runs against each version: this machine's, and in `make test-all` the others."""
    if metafunc.definition.get_closest_marker("strongswans") is not None:
        suites = [pytest.param(suite, marks=pytest.mark.sid, id=suite) for suite in OTHER_SUITES]
        metafunc.parametrize("charon_root", [pytest.param(None, id="here"), *suites], indirect=True)


@pytest.fixture
def charon_root(request: pytest.FixtureRequest, other_strongswan: Callable[[str], Path]) -> Path | None:
    """Where the charon of a Debian release is; None is this machine's."""
    suite = getattr(request, "param", None)
    return None if suite is None else other_strongswan(suite)


@pytest.fixture
def pair(charon_root: Path | None) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways whose charons are not started yet."""
    if not can_make_namespaces():
        pytest.skip("needs root or a user namespace with capabilities")
    with Lab("wa") as lab:
        hub, spoke = Gateway(lab, "hub", 1, charon_root), Gateway(lab, "spoke", 2, charon_root)
        lab.link(hub.namespace, "wan", f"{hub.address}/24", spoke.namespace, "wan", f"{spoke.address}/24")
        yield hub, spoke


@pytest.fixture
async def hub(pair: tuple[Gateway, Gateway]) -> Gateway:
    """One gateway with a running charon."""
    await pair[0].start()
    return pair[0]


@pytest.fixture
async def both(pair: tuple[Gateway, Gateway]) -> tuple[Gateway, Gateway]:
    """Two gateways with running charons."""
    await asyncio.gather(pair[0].start(), pair[1].start())
    return pair


def ike_key(number: int) -> tuple[bytes, str]:
    """A private seed and the public half in base64."""
    key = SigningKey(bytes([number]) * 32)
    return bytes(key), base64.b64encode(bytes(key.verify_key)).decode()


def tunnel(me: Gateway, peer: Gateway, initiator: bool, **changes: object) -> TunnelConfig:
    """One end's view of the tunnel between the two gateways; keys by the last part of the address."""
    own, other = int(me.address[-1]), int(peer.address[-1])
    fields: dict[str, object] = {
        "name": "hub+spoke",
        "policy": "p1",
        "priority": 100,
        "peer": peer.name,
        "initiator": initiator,
        "local_addrs": [me.address],
        "remote_addrs": [peer.address],
        "local_auth": {"identity": f"fqdn:{me.name}", "public_key": ike_key(own)[1]},
        "remote_auth": {"identity": f"fqdn:{peer.name}", "public_key": ike_key(other)[1]},
        "local_ts": [f"{me.protected[:-1]}0/24"],
        "remote_ts": [f"{peer.protected[:-1]}0/24"],
        "ike_proposals": ["aes256gcm16-prfsha384-x25519"],
        "esp_proposals": ["aes256gcm16-x25519"],
    }
    return TunnelConfig.model_validate(fields | changes)


class Watched:
    """A driver and everything it has told so far."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.told: list[DriverEvent] = []
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._new_driver()

    def _new_driver(self, notify: Path | None = None) -> None:
        seed = ike_key(int(self.gateway.address[-1]))[0]
        ledger = Ledger(self.gateway.folder / "state" / "strongswan.json")
        self.driver = StrongswanDriver(
            StrongswanPaths(self.gateway.vici, notify),
            seed,
            ledger,
            owns=lambda address: str(address) == self.gateway.address,
        )

    def tunnel(self, peer: "Watched", initiator: bool, **changes: object) -> TunnelConfig:
        return tunnel(self.gateway, peer.gateway, initiator, **changes)

    async def start(self) -> None:
        await self.driver.initialize()
        self._task = asyncio.create_task(self._listen())
        await self.wait_for(lambda event: isinstance(event, DaemonUp), since=len(self.told))

    async def _listen(self) -> None:
        async for event in self.driver.events():
            self.told.append(event)
            self._more.set()

    async def wait_for(
        self, wanted: Callable[[DriverEvent], bool], within: float = 20.0, since: int = 0
    ) -> DriverEvent:
        async with asyncio.timeout(within):
            while True:
                for event in self.told[since:]:
                    if wanted(event):
                        return event
                self._more.clear()
                await self._more.wait()

    async def settled(self, since: int = 0) -> TunnelChanged:
        """The next news of the tunnel being up on its newest configuration."""
        event = await self.wait_for(lambda event: isinstance(event, TunnelChanged) and event.settled, since=since)
        assert isinstance(event, TunnelChanged)
        return event

    async def stop(self, teardown: bool = False) -> None:
        if self._task is not None:
            self._task.cancel()
        await self.driver.cleanup(teardown)

    async def restart(self, notify: Path | None = None) -> None:
        """As when the agent is started again: another driver, with what is on disk."""
        await self.stop()
        self._new_driver(notify)
        await self.start()


@pytest.fixture
async def ends(both: tuple[Gateway, Gateway]) -> AsyncIterator[tuple[Watched, Watched]]:
    """A driver on each of two gateways with running charons."""
    hub, spoke = (Watched(gateway) for gateway in both)
    await asyncio.gather(hub.start(), spoke.start())
    yield hub, spoke
    await asyncio.gather(hub.stop(), spoke.stop())


class Peer(AgentProcess):
    """A whole agent beside one gateway's charon."""

    def __init__(self, gateway: Gateway, control: Control) -> None:
        environment = {
            "WARREN_NATS_URL": control.server.url,
            "WARREN_PEER": gateway.name,
            "WARREN_VICI_SOCKET": str(gateway.vici),
            "WARREN_ENDPOINTS": gateway.address,
            "WARREN_SUBNETS": f"{gateway.protected[:-1]}0/24",
        }
        super().__init__(gateway.folder, environment, join_token(control.root))
        self.gateway = gateway


@pytest.fixture
async def fleet(both: tuple[Gateway, Gateway], tmp_path: Path) -> AsyncIterator[tuple[Control, Peer, Peer]]:
    """A bus with a small control plane, and two enrolled agents at work beside their charons."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(tmp_path))
        callout = await stack.enter_async_context(GrantingCallout(server))
        control = await stack.enter_async_context(Control(server, callout))
        peers = [Peer(gateway, control) for gateway in both]
        for peer in peers:
            stack.callback(lambda peer=peer: print(peer.log[-6000:]))
            stack.push_async_callback(peer.stop)
        await asyncio.gather(*(peer.enrol() for peer in peers))
        await asyncio.gather(*(peer.start() for peer in peers))
        yield control, peers[0], peers[1]
