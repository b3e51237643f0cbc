"""For tests on real daemons: gateways of the lab, and the agent's strongSwan driver next to each one's charon.

It joins what `warren_lab` and `warren_agent` offer, so it stands above both; no command imports it.
"""

import asyncio
import base64
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from nacl.signing import SigningKey

from warren_agent.drivers.port import (
    AttemptFailed,
    DaemonDown,
    DaemonTunnelChanged,
    DaemonUp,
    DriftFound,
    Driver,
    DriverEvent,
)
from warren_agent.drivers.strongswan.charon import CharonClient as Vici
from warren_agent.drivers.strongswan.convergence import Termination
from warren_agent.drivers.strongswan.driver import StrongswanDriver
from warren_agent.drivers.strongswan.ledger import Ledger
from warren_agent.drivers.strongswan.sas import IkeSa
from warren_agent.drivers.strongswan.settings import StrongswanPaths
from warren_agent.paths.echo import open_echo_socket
from warren_contracts.tunnel import Tunnel
from warren_lab.charon_conf import IpsecBackend, Settings, charon_settings
from warren_lab.lab import Lab
from warren_lab.namespace import in_netns
from warren_lab.ping import ping_command
from warren_testkit.intent import ipsec_tunnel
from warren_testkit.waiting import eventually

# Retransmissions after 1, 1.8 and 3.2 s: a dead peer is given up within the time of a test.
IMPATIENT: dict[str, str | Settings] = {"retransmit_timeout": "1.0", "retransmit_tries": "2"}
# After 3, 5.4, 9.7 and 17.5 s: an emulated peer is slow, and no DELETE is to be given up.
EMULATED: dict[str, str | Settings] = {"retransmit_timeout": "3.0", "retransmit_tries": "3"}


def _patience(plane: IpsecBackend) -> dict[str, str | Settings]:
    return EMULATED if plane is IpsecBackend.KERNEL else IMPATIENT


LIMIT_S = 90.0
"""For an event of a driver, or a state of charon."""


class Held(NamedTuple):
    """What a charon holds: its connections as it lists them, and each CHILD_SA that carries traffic by names, unique ids and SPIs."""

    connections: tuple[bytes, ...]
    sas: frozenset[tuple[str, int, str, int, str, str]]


class Gateway:
    """One namespace with a charon: 192.0.2.`number`, which protects 10.`number`.0.0/24.

    Its VICI socket and its log are files that the test can reach. `root` is another Debian release's folder.
    """

    def __init__(
        self, lab: Lab, name: str, number: int, root: Path | None = None, plane: IpsecBackend = IpsecBackend.LIBIPSEC
    ) -> None:
        self.name, self.number = name, number
        self.address, self.protected = f"192.0.2.{number}", f"10.{number}.0.1"
        self.network = f"10.{number}.0.0/24"
        self.more_addresses: tuple[str, ...] = ()  # of further links
        self.namespace = lab.namespace(name)
        self.add_address(f"{self.protected}/24")
        self._lab, self._root, self._plane = lab, root, plane
        self.charon = lab.charon(self.namespace, charon_settings(plane, {"charon": _patience(plane)}), root)
        self.folder = lab.folder / name
        self.vici = self.charon.vici_path

    @property
    def log(self) -> str:
        return self.charon.log()

    async def start(self) -> None:
        await asyncio.to_thread(self.charon.start)

    async def stop(self) -> None:
        await asyncio.to_thread(self.charon.stop)

    async def crash(self) -> None:
        """Its charon ends without a goodbye."""
        await asyncio.to_thread(self.charon.kill)

    def lose_plugin(self, *plugins: str) -> None:
        """The next charon that is started here has no such plugins."""
        plain = charon_settings(self._plane)["charon"]
        assert not isinstance(plain, str)
        load = " ".join(word for word in str(plain["load"]).split() if word not in plugins)
        settings = charon_settings(self._plane, {"charon": {**_patience(self._plane), "load": load}})
        self.charon = self._lab.charon(self.namespace, settings, self._root)

    def drop_esp(self, device: str) -> None:
        """From now on no ESP that arrives at this device reaches the gateway's charon; IKE does.

        IKE at UDP 4500 begins with four zeros, ESP with its SPI (RFC 3948, 2.2).
        """
        run = self.namespace.run
        run("nft", "add", "table", "inet", "filter")
        run("nft", "add chain inet filter in { type filter hook input priority 0 ; }")
        run("nft", f"add rule inet filter in iifname {device} udp dport 4500 @th,64,32 != 0 drop")
        run("nft", f"add rule inet filter in iifname {device} meta l4proto esp drop")

    def pass_esp(self) -> None:
        """ESP passes again."""
        self.namespace.run("nft", "delete", "table", "inet", "filter")

    def allow_echoes(self) -> None:
        """Let every group send echoes by unprivileged sockets, as systemd's default does."""
        in_netns(self.namespace.path, _write_ping_group_range)

    def echo_socket(self, version: int) -> socket.socket:
        """A socket for echoes of this namespace. PermissionError unless they are allowed."""
        return in_netns(self.namespace.path, lambda: open_echo_socket(version))

    def add_address(self, address: str) -> None:
        self.namespace.add_address("lo", ip_interface(address))

    async def ping(self, target: str, count: int = 3, *more: str, source: str | None = None) -> bool:
        """Whether every one of `count` echo requests is answered; `more` are further options of ping(8)."""
        command = self.namespace.argv(ping_command(target, source or self.protected, count, *more))
        process = await asyncio.create_subprocess_exec(*command, stdout=-3)
        return await process.wait() == 0

    async def ike_sas(self) -> list[IkeSa]:
        """What charon itself holds."""
        charon = Vici(self.vici)
        try:
            return await charon.sas()
        finally:
            await charon.close()

    async def held(self) -> Held:
        """What an agent that starts again must not have changed, as charon itself has it."""
        charon = Vici(self.vici)
        try:
            return Held(
                tuple(sorted(await charon.connection_events())),
                frozenset(
                    (str(sa.handle), sa.unique_id, str(child.handle), child.unique_id, child.spi_in, child.spi_out)
                    for sa in await charon.sas()
                    for child in sa.children
                    if child.carries
                ),
            )
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

        await eventually(looks_right, LIMIT_S)


def _write_ping_group_range() -> None:
    Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")


def ike_key(number: int) -> tuple[bytes, str]:
    """A private seed and the public half in base64."""
    key = SigningKey(bytes([number]) * 32)
    return bytes(key), base64.b64encode(bytes(key.verify_key)).decode()


def tunnel(me: Gateway, peer: Gateway, /, initiator: bool, **changes: Any) -> Tunnel:
    """One end's view of the tunnel between two gateways; their keys are derived from their numbers.

    `ike`, `child`, `children` and `link` change those levels, as in `ipsec_tunnel`.
    """
    fields: dict[str, Any] = {
        "peer": peer.name,
        "initiator": initiator,
        "local_endpoints": [me.address],
        "remote_endpoints": [peer.address],
    }
    networks = {"local_ts": [me.network], "remote_ts": [peer.network]}
    children = [{**networks, **it} for it in changes.pop("children", [changes.pop("child", {})])]
    link = {"local_auth": raw_key(f"fqdn:{me.name}", me), "remote_auth": raw_key(f"fqdn:{peer.name}", peer)}
    changes["link"] = link | changes.pop("link", {})
    return ipsec_tunnel(**(fields | changes), children=children)


def raw_key(identity: str, gateway: Gateway) -> dict[str, str]:
    """The authentication of a gateway under an identity."""
    return {"kind": "raw-key", "identity": identity, "public_key": ike_key(gateway.number)[1]}


EventT = TypeVar("EventT", DaemonTunnelChanged, AttemptFailed, DriftFound, DaemonUp, DaemonDown)


class WatchedDriver(ABC):
    """A driver and all its events so far."""

    driver: Driver

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.events: list[DriverEvent] = []
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._new_driver()

    @abstractmethod
    def _new_driver(self, notify: Path | None = None) -> None:
        """Set `driver` to another one, which has what is on disk. `notify`: the socket of charon's error-notify plugin."""

    def tunnel(self, peer: "WatchedDriver", /, initiator: bool, **changes: Any) -> Tunnel:
        return tunnel(self.gateway, peer.gateway, initiator, **changes)

    async def initialize(self) -> None:
        """Let the driver look for charon."""
        await self.driver.initialize()
        self._task = asyncio.create_task(self._listen())

    async def start(self) -> None:
        await self.initialize()
        await self.first(DaemonUp, since=len(self.events))

    async def _listen(self) -> None:
        async for event in self.driver.events():
            self.events.append(event)
            self._more.set()

    async def wait_for(
        self, wanted: Callable[[DriverEvent], bool], within: float = LIMIT_S, since: int = 0
    ) -> DriverEvent:
        async with asyncio.timeout(within):
            while True:
                for event in self.events[since:]:
                    if wanted(event):
                        return event
                self._more.clear()
                await self._more.wait()

    async def first(
        self,
        kind: type[EventT],
        wanted: Callable[[EventT], bool] = lambda event: True,
        within: float = LIMIT_S,
        since: int = 0,
    ) -> EventT:
        """The first event of a type for which `wanted` holds; TimeoutError after `within` seconds."""
        event = await self.wait_for(lambda event: isinstance(event, kind) and wanted(event), within, since)
        assert isinstance(event, kind)
        return event

    async def attempt_failed(self, since: int = 0) -> AttemptFailed:
        """The first attempt that failed for good: one that is answered late on a busy machine is reported as well."""
        return await self.first(AttemptFailed, lambda event: event.final, since=since)

    async def converged(self, since: int = 0, name: str | None = None) -> DaemonTunnelChanged:
        """The next news of a tunnel (this one, if named) being up on its newest configuration."""

        def is_converged(event: DaemonTunnelChanged) -> bool:
            return event.converged and name in (None, event.status.name)

        return await self.first(DaemonTunnelChanged, is_converged, since=since)

    async def stop(self, teardown: bool = False) -> None:
        if self._task is not None:
            self._task.cancel()
        await self.driver.cleanup(teardown)

    async def restart(self, notify: Path | None = None) -> None:
        """As when the agent is started again: another driver, with what is on disk."""
        await self.stop()
        self._new_driver(notify)
        await self.start()


class Watched(WatchedDriver):
    """A strongSwan driver and all its events so far."""

    driver: StrongswanDriver

    def __init__(self, gateway: Gateway, correct_drift: bool = True) -> None:
        self._correct_drift = correct_drift
        super().__init__(gateway)

    def _new_driver(self, notify: Path | None = None) -> None:
        self.driver = StrongswanDriver(
            StrongswanPaths(self.gateway.vici, notify),
            ike_key(self.gateway.number)[0],
            Ledger(self.gateway.folder / "state" / "strongswan.json"),
            owns=lambda address: str(address) == self.gateway.address,
            correct_drift=self._correct_drift,
        )


Ends = tuple[Watched, Watched]  # the hub's and the spoke's
