"""Traffic selectors (RFC 7296, 2.9 and 3.13.1): values, containment and intersection."""

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)

from warren_ikev2.addresses import IPAddress

ANY_PROTOCOL = 0
MAX_PORT = 0xFFFF
MAX_SELECTORS = 64  # of a peer's offer that are read; charon sends as many as are configured, rarely over 8


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """A range of addresses and ports of one IP protocol (0: any). ICMP type and code stand in the port fields."""

    start: IPAddress
    end: IPAddress
    protocol: int = ANY_PROTOCOL
    start_port: int = 0
    end_port: int = MAX_PORT

    @classmethod
    def parse(cls, text: str) -> "TrafficSelector":
        """`10.0.0.0/8`, `2001:db8::/32`, `10.0.0.1`, or `10.0.0.1-10.0.0.9`; ValueError otherwise."""
        if "-" in text:
            first, last = (ip_address(part.strip()) for part in text.split("-", 1))
            if first.version != last.version or int(first) > int(last):
                raise ValueError(f"not an address range: {text!r}")
            return cls(first, last)
        return cls.from_network(ip_network(text, strict=False))

    @classmethod
    def from_network(cls, network: IPv4Network | IPv6Network) -> "TrafficSelector":
        """All protocols and ports of a network."""
        return cls(network[0], network[-1])

    @classmethod
    def from_host(cls, host: IPAddress) -> "TrafficSelector":
        """All protocols and ports of one address."""
        return cls(host, host)

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.start.version

    def networks(self) -> list[IPv4Network | IPv6Network]:
        """Return the fewest networks that cover exactly this range, for routes."""
        if isinstance(self.start, IPv4Address) and isinstance(self.end, IPv4Address):
            return list(summarize_address_range(self.start, self.end))
        if isinstance(self.start, IPv6Address) and isinstance(self.end, IPv6Address):
            return list(summarize_address_range(self.start, self.end))
        return []

    def intersection(self, other: "TrafficSelector") -> "TrafficSelector | None":
        """What both allow, or None."""
        if self.version != other.version:
            return None
        if self.protocol and other.protocol and self.protocol != other.protocol:
            return None
        start, end = max(int(self.start), int(other.start)), min(int(self.end), int(other.end))
        start_port, end_port = max(self.start_port, other.start_port), min(self.end_port, other.end_port)
        if start > end or start_port > end_port:
            return None
        make = type(self.start)
        return TrafficSelector(make(start), make(end), self.protocol or other.protocol, start_port, end_port)

    def is_subset_of(self, other: "TrafficSelector") -> bool:
        """Whether `other` allows everything that this one does."""
        return self.intersection(other) == self

    def matches(self, host: IPAddress, protocol: int, port: int | None = None) -> bool:
        """Whether a packet's address, protocol and port fall inside; `port` None: a packet without ports."""
        if host.version != self.version or not int(self.start) <= int(host) <= int(self.end):
            return False
        if self.protocol not in (ANY_PROTOCOL, protocol):
            return False
        if port is None:
            return (self.start_port, self.end_port) == (0, MAX_PORT)
        return self.start_port <= port <= self.end_port

    def __str__(self) -> str:
        networks = self.networks()
        text = str(networks[0]) if len(networks) == 1 else f"{self.start}-{self.end}"
        if (self.protocol, self.start_port, self.end_port) != (ANY_PROTOCOL, 0, MAX_PORT):
            text += f"[{self.protocol}/{self.start_port}-{self.end_port}]"
        return text


Selectors = tuple[TrafficSelector, ...]


def narrow(offered: Selectors, configured: Selectors) -> Selectors:
    """The part of the peer's selectors that the configuration allows, in the peer's order (RFC 7296, 2.9).

    The order keeps the initiator's specific first selector in the answer. Ranges that others cover are left out.
    """
    found: list[TrafficSelector] = []
    for offer in offered[:MAX_SELECTORS]:
        for own in configured:
            common = offer.intersection(own)
            if common is not None and not any(common.is_subset_of(known) for known in found):
                found = [known for known in found if not known.is_subset_of(common)] + [common]
    return tuple(found)


def all_within(selectors: Selectors, limits: Selectors) -> bool:
    """Whether each selector lies inside one of the limits."""
    return all(any(selector.is_subset_of(limit) for limit in limits) for selector in selectors)
