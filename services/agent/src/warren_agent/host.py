"""What the agent can read of its host without privileges, and the facts that its heartbeats carry."""

import os
import socket
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

from warren_agent.drivers.addresses import Owns, host_owns
from warren_contracts.addresses import Endpoint, IPAddress
from warren_contracts.status import HostFacts

SURVEY_INTERVAL = 60.0  # s
GUARD_SOCKET = Path("/run/warren-guard/guard.sock")
_IP_MTU = 14  # of Linux's ip(7): the path MTU that the kernel knows of a connected socket
_IPV6_MTU = 24  # ipv6(7)


def forwards_ipv4() -> bool | None:
    """Whether this network namespace forwards IPv4, also where /proc/sys is hidden; None if it cannot be read."""
    try:
        text = Path("/proc/self/net/snmp").read_text()
        names, values = [line.split() for line in text.splitlines() if line.startswith("Ip:")]
        return values[names.index("Forwarding")] == "1"
    except (OSError, ValueError, IndexError):
        return None


def path_mtu(address: IPAddress) -> int | None:
    """The path MTU to an address in bytes, None if the kernel has no route or does not report it. Sends nothing."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if address.version == 6 else (socket.IPPROTO_IP, _IP_MTU)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 500))
            return probe.getsockopt(level, option)
    except OSError:
        return None


class HostSurvey:
    """Reads the facts, at most once in SURVEY_INTERVAL. `endpoints` are the announced ones."""

    def __init__(self, endpoints: Iterable[Endpoint], clock: Callable[[], float], owns: Owns = host_owns) -> None:
        self._endpoints = tuple(endpoints)
        self._clock = clock
        self._owns = owns
        self._read_at = float("-inf")
        self._facts = HostFacts()

    def facts(self, remotes: Iterable[str]) -> HostFacts:
        """The facts; `remotes` are the addresses of the peers with which there is an IKE_SA."""
        if self._clock() - self._read_at >= SURVEY_INTERVAL:
            self._read_at = self._clock()
            system = os.uname()
            self._facts = HostFacts(
                kernel=f"{system.sysname} {system.release} {system.machine}"[:128],
                forwards_ipv4=forwards_ipv4(),
                path_mtu=min(filter(None, map(_mtu_to, remotes)), default=None),
                behind_nat=self._is_behind_nat(),
                guard=GUARD_SOCKET.exists(),
            )
        return self._facts

    def _is_behind_nat(self) -> bool | None:
        addresses = [it.host for it in self._endpoints if not isinstance(it.host, str)]
        return any(not self._owns(it) for it in addresses) if addresses else None


def _mtu_to(remote: str) -> int | None:
    try:
        return path_mtu(ip_address(remote))
    except ValueError:
        return None
