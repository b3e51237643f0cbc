"""Where datagrams come from and go to."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

IPAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """An IP address and a UDP port."""

    host: IPAddress
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.host.version == 6 else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Path:
    """The pair of socket addresses that a datagram travels between, as seen from here."""

    local: SocketAddress
    remote: SocketAddress

    def __str__(self) -> str:
        return f"{self.local} <-> {self.remote}"


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP payload to send, marker included where the path needs it (RFC 3948)."""

    data: bytes
    path: Path
