"""Gateways of the lab without charon: the agent's userspace driver, whose daemon runs in the gateway's namespace."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from warren_agent.drivers.set import HostedDriver
from warren_agent.drivers.userspace.driver import UserspaceDriver
from warren_contracts.tunnel import Tunnel
from warren_lab.process import stop_process
from warren_testkit.lab.agents import LocalAgent
from warren_testkit.lab.gateways import Gateway, WatchedDriver, ike_key


def spawn_daemon(gateway: Gateway, socket: Path) -> subprocess.Popen[bytes]:
    """The daemon in a gateway's namespace, with its output in the gateway's folder."""
    gateway.folder.mkdir(parents=True, exist_ok=True)
    with (gateway.folder / "userspace.log").open("ab") as log:
        return gateway.namespace.spawn(
            sys.executable, "-m", "warren_ikev2.daemon", "--socket", str(socket), env=os.environ, stdout=log, stderr=log
        )


class WatchedUserspace(WatchedDriver):
    """A userspace driver and all its events so far; the gateway's charon is not started.

    `accepted` and `refused` are for the contract suite.
    """

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.accepted: Tunnel
        self.refused: Tunnel

    def _new_driver(self, notify: Path | None = None) -> None:
        self.socket = self.gateway.folder / "userspace.sock"
        self.driver = UserspaceDriver(
            self.socket,
            ike_key(self.gateway.number)[0],
            start_daemon=False,
            owns=lambda address: str(address) == self.gateway.address,
        )

    def start_daemon(self) -> None:
        """Start the daemon in the gateway's namespace, with its output in the gateway's folder."""
        self.daemon = spawn_daemon(self.gateway, self.socket)

    @property
    def log(self) -> str:
        """The daemon's output."""
        return (self.gateway.folder / "userspace.log").read_text()


class LocalUserspaceAgent(LocalAgent):
    """An agent in the test's process with the userspace driver."""

    devices = ("warren0",)
    daemon: subprocess.Popen[bytes] | None = None

    def _make_driver(self, folder: Path) -> HostedDriver:
        self.socket = folder / "userspace.sock"
        gateway = self.gateway
        self.userspace = UserspaceDriver(
            self.socket, ike_key(gateway.number)[0], start_daemon=False,
            owns=lambda address: str(address) in (gateway.address, *gateway.more_addresses),
        )  # fmt: skip
        return HostedDriver("userspace", ("ipsec",), self.userspace)

    async def start_daemon(self) -> None:
        self.daemon = spawn_daemon(self.gateway, self.socket)

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            daemon, self.daemon = self.daemon, None
            print((self.gateway.folder / "userspace.log").read_text()[-4000:])
            if daemon is not None:
                await asyncio.to_thread(stop_process, daemon)

    async def carrying(self) -> set[tuple[str, str]]:
        found = await self.userspace.list_tunnels()
        return {(it.name, it.link.remote_address) for it in found if it.link.children}
