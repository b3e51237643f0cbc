"""The IPsec daemon of one gateway: strongSwan's charon or the userspace daemon. What it holds is read from itself."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import vici

from warren_ikev2.daemon import messages
from warren_lab.charon import Charon
from warren_lab.namespace import Namespace
from warren_lab.process import stop_process, wait_until

ANSWER_LIMIT_SECONDS = 10.0
START_LIMIT_SECONDS = 20.0
TUN_DEVICE = "warren0"
"""Of the userspace daemon: all tunnels of a gateway are in one."""


@dataclass(frozen=True)
class DaemonState:
    """Names of loaded connections, and the SPIs (inbound and outbound) of every CHILD_SA."""

    connections: tuple[str, ...]
    ike_sas: int
    spis: frozenset[int]

    @property
    def is_empty(self) -> bool:
        return not self.connections and not self.ike_sas


class GatewayDaemon(Protocol):
    """A daemon that runs in a gateway's namespace."""

    name: str
    folder: Path
    """Its own, with a short path: sockets may be put there."""

    def start(self) -> None:
        """Start it and wait until it answers."""

    def stop(self) -> None:
        """End it in order."""

    @property
    def agent_settings(self) -> dict[str, str]:
        """What the agent next to it needs to reach it, as environment variables."""

    def read(self) -> DaemonState:
        """Ask the daemon itself: what agents and services report is not believed here."""

    def log(self) -> str:
        """Its log so far."""


class CharonDaemon:
    """strongSwan's charon, over its VICI socket."""

    name = "charon"

    def __init__(self, charon: Charon) -> None:
        self._charon = charon
        self.folder = charon.folder

    def start(self) -> None:
        self._charon.start()

    def stop(self) -> None:
        self._charon.stop()

    @property
    def agent_settings(self) -> dict[str, str]:
        return {
            "WARREN_VICI_SOCKET": str(self._charon.vici_path),
            "WARREN_ENFY_SOCKET": str(self._charon.enfy_path),
        }

    def read(self) -> DaemonState:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_LIMIT_SECONDS)
            connection.connect(str(self._charon.vici_path))
            session = vici.Session(connection)
            names = [name.decode() for name in session.get_conns()["conns"]]
            sas = [sa for event in session.list_sas() for sa in event.values()]
        children = [child for sa in sas for child in sa.get("child-sas", {}).values()]
        spis = {int(child[end], 16) for child in children for end in ("spi-in", "spi-out") if end in child}
        return DaemonState(tuple(sorted(names)), len(sas), frozenset(spis))

    def log(self) -> str:
        return self._charon.log()


class UserspaceDaemon:
    """`warren_ikev2.daemon`, over its UNIX socket."""

    name = "userspace"

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._namespace = namespace
        self._socket = folder / "userspace.sock"
        self._log = folder / "userspace.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = self._namespace.spawn(
                sys.executable, "-m", "warren_ikev2.daemon", "--socket", str(self._socket), "--tun", TUN_DEVICE,
                env=os.environ, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        wait_until(self._answers, "the userspace daemon's socket", START_LIMIT_SECONDS, self._process.pid)

    def stop(self) -> None:
        if self._process is not None:
            stop_process(self._process)
            self._process = None

    @property
    def agent_settings(self) -> dict[str, str]:
        return {
            "WARREN_DRIVER": self.name,
            "WARREN_USERSPACE_SOCKET": str(self._socket),
            "WARREN_GUARD_DEVICES": TUN_DEVICE,
        }

    def read(self) -> DaemonState:
        with self._connect() as connection, connection.makefile("rb") as lines:
            connection.sendall(messages.build(1, messages.List()))
            reports = []
            for line in lines:
                _, message = messages.parse(line)
                if isinstance(message, messages.TunnelReport):
                    reports.append(message)
                else:
                    break
        children = [child for report in reports for child in report.children]
        spis = {spi for child in children for spi in (child.spi_in, child.spi_out)}
        up = [report for report in reports if report.ike_cipher]
        return DaemonState(tuple(sorted(report.name for report in reports)), len(up), frozenset(spis))

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_LIMIT_SECONDS)
        try:
            connection.connect(str(self._socket))
        except OSError:
            connection.close()
            raise
        return connection

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except OSError:
            return False
        return True
