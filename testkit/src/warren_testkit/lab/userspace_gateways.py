"""A gateway of the lab without charon: the agent's userspace driver, whose daemon runs in the gateway's namespace."""

import os
import subprocess
import sys
from pathlib import Path

from warren_agent.drivers.userspace.driver import UserspaceDriver
from warren_contracts.tunnel import Tunnel
from warren_testkit.lab.gateways import Gateway, WatchedDriver, ike_key


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
        self.gateway.folder.mkdir(parents=True, exist_ok=True)
        with (self.gateway.folder / "userspace.log").open("ab") as log:
            self.daemon = self.gateway.namespace.spawn(
                sys.executable, "-m", "warren_ikev2.daemon", "--socket", str(self.socket),
                env=os.environ, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """The daemon's output."""
        return (self.gateway.folder / "userspace.log").read_text()
