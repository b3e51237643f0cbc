"""What the agent can read of its host without privileges, and the facts that its heartbeats carry."""

import array
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path

from warren_agent.drivers.addresses import Owns, host_owns
from warren_contracts.addresses import Endpoint, IPAddress
from warren_contracts.status import GuardFacts, GuardState, HostFacts

SURVEY_INTERVAL = 60.0  # s
GUARD_SOCKET = Path("/run/warren-guard/guard.sock")
_IP_MTU = 14  # of Linux's ip(7): the path MTU that the kernel knows of a connected socket
_IPV6_MTU = 24  # ipv6(7)
_SIOCGIFCONF = 0x8912  # netdevice(7)
_IFREQ = 16 + (24 if struct.calcsize("P") == 8 else 16)  # bytes: a name, and the largest member of the union
_MOST_ADDRESSES = 1_024
_NET = Path("/proc/self/net")
_IF_INET6 = _NET / "if_inet6"
_MOST_SOCKETS = 1_000_000  # characters: 6,000 sockets
IKE_PORTS = (500, 4500)  # RFC 7296, 2.23
MAX_IKE_SOCKETS = 8  # of HostFacts.ike_sockets


def forwards_ipv4() -> bool | None:
    """Whether this network namespace forwards IPv4, also where /proc/sys is hidden; None if it cannot be read."""
    try:
        text = Path("/proc/thread-self/net/snmp").read_text()
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


def ike_sockets(folder: Path = _NET) -> tuple[str, ...] | None:
    """Addresses with the ports 500 and 4500 at which something listens for UDP in this network namespace: `[::]:500`.

    None if the system does not list them. At most MAX_IKE_SOCKETS; charon has four.
    """
    found: list[str] | None = None
    for name in ("udp", "udp6"):
        try:
            with (folder / name).open(encoding="ascii") as file:
                lines = file.read(_MOST_SOCKETS).splitlines()[1:]
            found = [*(found or []), *filter(None, map(_ike_socket, lines))]
        except (OSError, ValueError, IndexError):
            continue
    return None if found is None else tuple(dict.fromkeys(found))[:MAX_IKE_SOCKETS]


def _ike_socket(line: str) -> str:
    """The local address and port of a line of /proc/net/udp (words of the host's byte order), if it is one of IKE's."""
    address, _, port = line.split()[1].partition(":")
    if int(port, 16) not in IKE_PORTS:
        return ""
    words = (int(address[at : at + 8], 16) for at in range(0, len(address), 8))
    host = ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return f"[{host}]:{int(port, 16)}" if host.version == 6 else f"{host}:{int(port, 16)}"


def own_addresses(open_socket: Callable[[int, int], socket.socket] = socket.socket) -> tuple[IPAddress, ...]:
    """The host's addresses but for loopback and link-local ones, IPv4 first; none where the system does not list them.

    Without privileges and without netlink, which the unit does not allow: IPv4 by SIOCGIFCONF, of the namespace of the socket, IPv6
    by /proc/net/if_inet6.
    """
    found = [*_own_ipv4(open_socket), *_own_ipv6()]
    return tuple(it for it in dict.fromkeys(found) if not (it.is_loopback or it.is_link_local))


def _own_ipv4(open_socket: Callable[[int, int], socket.socket]) -> list[IPAddress]:
    if sys.platform != "linux":
        return []
    import fcntl  # not on every platform

    buffer = array.array("B", bytes(_MOST_ADDRESSES * _IFREQ))
    try:
        with open_socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            answer = fcntl.ioctl(asking, _SIOCGIFCONF, struct.pack("iP", len(buffer), buffer.buffer_info()[0]))
    except OSError:
        return []
    size: int = struct.unpack("iP", answer)[0]
    return [ip_address(bytes(buffer[at + 20 : at + 24])) for at in range(0, size, _IFREQ)]


def _own_ipv6() -> list[IPAddress]:
    try:
        lines = _IF_INET6.read_text().splitlines()
    except OSError:
        return []
    return [ip_address(bytes.fromhex(line[:32])) for line in lines[:_MOST_ADDRESSES]]


class HostSurvey:
    """Reads the facts, at most once in SURVEY_INTERVAL. `endpoints` are the announced ones."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        clock: Callable[[], float],
        owns: Owns = host_owns,
        guard: Callable[[], GuardFacts | None] = lambda: None,
        unconfirmed_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """`guard` says what the agent knows of the guard, None if it uses none; `unconfirmed_s` for how long digests are missing."""
        self._endpoints = tuple(endpoints)
        self._clock = clock
        self._owns = owns
        self._guard = guard
        self._unconfirmed_s = unconfirmed_s
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
                ike_sockets=ike_sockets(),
            )
        return self._facts.model_copy(
            update={"guard": self._guard() or _unused_guard(), "intent_unconfirmed_s": self._unconfirmed_s()}
        )

    def _is_behind_nat(self) -> bool | None:
        addresses = [it.host for it in self._endpoints if not isinstance(it.host, str)]
        return any(not self._owns(it) for it in addresses) if addresses else None


def _unused_guard() -> GuardFacts:
    return GuardFacts(state=GuardState.UNUSED if GUARD_SOCKET.exists() else GuardState.ABSENT)


def _mtu_to(remote: str) -> int | None:
    try:
        return path_mtu(ip_address(remote))
    except ValueError:
        return None
