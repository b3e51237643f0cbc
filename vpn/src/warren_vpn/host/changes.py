"""The changes of the client on its host, as the journal holds them. Pure.

Each has a `key`: two changes with one key occupy the same place in the kernel, so that the newer one replaces the older one.
"""

import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from warren_contracts.base import Input

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
_DEVICE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$"
DeviceName = Annotated[str, StringConstraints(pattern=_DEVICE)]
"""Of a network interface: at most 15 bytes (IFNAMSIZ), and no character that nft or ip would read as syntax."""
Port = Annotated[int, Field(ge=1, le=65535)]
Key = tuple[str, ...]

MAIN_TABLE = 254
UDP = 17


class LinkChange(Input):
    """The TUN device. It ends by itself with the processes that hold it, and its addresses and routes with it."""

    kind: Literal["link"] = "link"
    device: DeviceName

    @property
    def key(self) -> Key:
        return (self.kind, self.device)


class AddressChange(Input):
    """An address of the TUN device."""

    kind: Literal["address"] = "address"
    device: DeviceName
    address: Interface

    @property
    def key(self) -> Key:
        return (self.kind, self.device, str(self.address))


class RouteChange(Input):
    """A route in a table of our own; without a device its destinations are unreachable."""

    kind: Literal["route"] = "route"
    network: Network
    table: int
    device: DeviceName | None
    source: Address | None = None

    @property
    def key(self) -> Key:
        return (self.kind, str(self.network), str(self.table))


class RuleChange(Input):
    """A rule that selects a routing table (ip-rule(8)). `local_port` and `remote_port` are of UDP."""

    kind: Literal["rule"] = "rule"
    version: Literal[4, 6]
    priority: int
    table: int
    to: Network | None = None
    remote_port: Port | None = None
    local_port: Port | None = None

    @property
    def key(self) -> Key:
        parts = (self.version, self.priority, self.table, self.to, self.remote_port, self.local_port)
        return (self.kind, *map(str, parts))


class DeviceDns(Input):
    """DNS servers of the TUN device, in a program that knows those of each interface."""

    kind: str
    device: DeviceName
    servers: tuple[Address, ...]
    search: tuple[str, ...] = ()
    everything: bool = False
    """Whether every name is asked there, and no server of another interface, where the program can do that.
    Otherwise systemd-resolved asks there for the names in `search`."""

    @property
    def key(self) -> Key:
        return (self.kind, self.device)


class ResolvedChange(DeviceDns):
    """In systemd-resolved (resolvectl(1))."""

    kind: Literal["dns-resolved"] = "dns-resolved"


class ResolvconfChange(DeviceDns):
    """In resolvconf(8), as a record named after the device; which names are asked there is its own choice."""

    kind: Literal["dns-resolvconf"] = "dns-resolvconf"


class Original(Input):
    """What was at a path before: a file's content and mode, the target of a symbolic link, or nothing."""

    content: str | None = None
    mode: int = 0o644
    target: str | None = None


class ResolvConfFileChange(Input):
    """The resolver's plain file, replaced as a whole."""

    kind: Literal["dns-file"] = "dns-file"
    path: str
    original: Original
    written: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    """What we write first, then what we wrote before. The file is put back only while it has one of these contents."""

    @property
    def key(self) -> Key:
        return (self.kind, self.path)

    def rewritten(self, content: str) -> "ResolvConfFileChange":
        """The same with another content."""
        if content == self.written[0]:
            return self
        return self.model_copy(update={"written": (content, *self.written)[:64]})


def zone_of(address: Address) -> str | None:
    """The interface of a link-local address (`fe80::1%wan`, RFC 4007, 11), or None."""
    return address.scope_id if isinstance(address, IPv6Address) else None


def without_zone(address: Address) -> Address:
    """The address alone."""
    return IPv6Address(int(address)) if isinstance(address, IPv6Address) else address


def _check_zone(address: Address) -> Address:
    zone = zone_of(address)
    if zone is not None and not re.fullmatch(_DEVICE, zone):
        raise ValueError(f"invalid zone of {without_zone(address)}: must be the name of a network interface")
    return address


DnsServer = Annotated[Address, AfterValidator(_check_zone)]
"""With its zone, if it is link-local."""
Passage = tuple[DnsServer, Port]
"""A DNS server of the host's own network, and the local port from which the client asks it."""


class KillSwitchChange(Input):
    """Our nftables table; its text is built from these."""

    kind: Literal["kill-switch"] = "kill-switch"
    device: DeviceName
    servers: tuple[tuple[Address, Port], ...]
    """Address and UDP port."""
    protected: tuple[Network, ...]
    """What must not leave but through the device; 0.0.0.0/0 is all of IPv4."""
    local: tuple[Network, ...] = ()
    """Networks of the host's own links that stay reachable."""
    questions: tuple[Passage, ...] = ()
    """For the names of servers, while they are looked up."""
    lasting: bool = False
    """Whether it outlives the client, until `warren vpn down`."""

    @property
    def key(self) -> Key:
        return (self.kind,)


DnsChange = ResolvedChange | ResolvconfChange | ResolvConfFileChange
Change = Annotated[
    LinkChange | AddressChange | RouteChange | RuleChange | DnsChange | KillSwitchChange, Field(discriminator="kind")
]
