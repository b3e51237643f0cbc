"""What one charon holds, read over its VICI socket."""

import socket
from dataclasses import dataclass

import vici

from warren_lab.charon import Charon

ANSWER_LIMIT_SECONDS = 10.0


@dataclass(frozen=True)
class DaemonState:
    """Names of loaded connections, and the SPIs (inbound and outbound) of every CHILD_SA."""

    connections: tuple[str, ...]
    ike_sas: int
    spis: frozenset[int]

    @property
    def is_empty(self) -> bool:
        return not self.connections and not self.ike_sas


def read_daemon(charon: Charon) -> DaemonState:
    """Ask the daemon itself: what agents and services report is not believed here."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_LIMIT_SECONDS)
        connection.connect(str(charon.vici_path))
        session = vici.Session(connection)
        names = [name.decode() for name in session.get_conns()["conns"]]
        sas = [sa for event in session.list_sas() for sa in event.values()]
    children = [child for sa in sas for child in sa.get("child-sas", {}).values()]
    spis = {int(child[end], 16) for child in children for end in ("spi-in", "spi-out") if end in child}
    return DaemonState(tuple(sorted(names)), len(sas), frozenset(spis))
