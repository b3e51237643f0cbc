"""Traffic selectors in swanctl's grammar: `10.0.0.0/24`, `10.0.0.10-10.0.0.20[tcp/443]`, `dynamic[udp/1024-2048]`.

A selector is a network or a range of addresses, optionally with a protocol and a range of ports (RFC 7296, 3.13.1). `dynamic`
stands for the address of the end itself: its virtual address if it has one, else its IKE endpoint.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, summarize_address_range
from typing import Annotated, Any, NamedTuple

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from warren_contracts import networks
from warren_contracts.addresses import IPAddress, IPNetwork, parse_network
from warren_contracts.networks import contains, merged

DYNAMIC = "dynamic"
ANY_PORTS = (0, 65_535)
OPAQUE_PORTS = (65_535, 0)  # RFC 7296, 3.13.1: matches packets whose ports are not known
# IANA's protocol numbers by the names of /etc/protocols that strongSwan and operators use.
PROTOCOLS = {
    "icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51,
    "ipv6-icmp": 58, "ospf": 89, "l2tp": 115, "vrrp": 112, "sctp": 132, "udplite": 136,
}  # fmt: skip
WITH_PORTS = frozenset(PROTOCOLS[name] for name in ("tcp", "udp", "dccp", "sctp", "udplite"))
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_SELECTOR = re.compile(r"(?P<addresses>[^\[\]]+)(?:\[(?P<protocol>[a-z0-9-]+)(?:/(?P<ports>[a-z0-9-]+))?\])?")
_ALIASES = {"icmpv6": "ipv6-icmp", "ipip": "ipencap"}

Ports = tuple[int, int]  # first and last


class AddressRange(NamedTuple):
    """Addresses from `first` to `last`, both included."""

    first: IPAddress
    last: IPAddress

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """One selector. `addresses` is None for `dynamic`; `protocol` 0 means any."""

    addresses: IPNetwork | AddressRange | None
    protocol: int = 0
    ports: Ports = ANY_PORTS

    @property
    def networks(self) -> tuple[IPNetwork, ...]:
        """Exactly these addresses as networks; empty if dynamic."""
        if self.addresses is None:
            return ()
        if not isinstance(self.addresses, AddressRange):
            return (self.addresses,)
        bounds: Any = self.addresses  # both have one version; the stub is typed for one version each
        return tuple(summarize_address_range(*bounds))

    def __str__(self) -> str:
        text = DYNAMIC if self.addresses is None else str(self.addresses)
        if not self.protocol and self.ports == ANY_PORTS:
            return text
        protocol = format_protocol(self.protocol)
        return f"{text}[{protocol}]" if self.ports == ANY_PORTS else f"{text}[{protocol}/{format_ports(self.ports)}]"


def overlap(one: TrafficSelector, other: TrafficSelector) -> bool:
    """Whether any packet matches both. A dynamic selector is unknown here and overlaps with none."""
    if one.protocol and other.protocol and one.protocol != other.protocol:
        return False
    if not _ports_overlap(one.ports, other.ports):
        return False
    return any(networks.overlap(a, b) for a in one.networks for b in other.networks)


def within(inner: TrafficSelector, outer: TrafficSelector) -> bool:
    """Whether every packet that matches `inner` matches `outer`. A dynamic selector is unknown here: never."""
    return _has_protocol_and_ports(outer, inner) and _addresses_within(inner, outer.networks)


def covered(inner: TrafficSelector, outers: Iterable[TrafficSelector]) -> bool:
    """Whether every packet that matches `inner` matches one of `outers`, whose adjacent networks count as one. Dynamic: never."""
    wide = (it for it in outers if _has_protocol_and_ports(it, inner))
    return _addresses_within(inner, merged(networks_of(wide)))


def _addresses_within(inner: TrafficSelector, wide: tuple[IPNetwork, ...]) -> bool:
    return bool(inner.networks) and all(any(contains(it, own) for it in wide) for own in inner.networks)


def _has_protocol_and_ports(outer: TrafficSelector, inner: TrafficSelector) -> bool:
    if outer.protocol not in (0, inner.protocol):
        return False
    return outer.ports == ANY_PORTS or _ports_within(inner.ports, outer.ports)


def _ports_within(inner: Ports, outer: Ports) -> bool:
    if OPAQUE_PORTS in (inner, outer):
        return inner == outer
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _ports_overlap(one: Ports, other: Ports) -> bool:
    if OPAQUE_PORTS in (one, other):
        return one == other or ANY_PORTS in (one, other)
    return one[0] <= other[1] and other[0] <= one[1]


def networks_of(selectors: Iterable[TrafficSelector]) -> tuple[IPNetwork, ...]:
    """The networks of selectors in order."""
    return tuple(network for selector in selectors for network in selector.networks)


def format_protocol(protocol: int) -> str:
    """A protocol's name, or its number."""
    return _NAMES.get(protocol, str(protocol))


def format_ports(ports: Ports) -> str:
    """`443`, `1024-2048`, `any` or `opaque`."""
    if ports == ANY_PORTS:
        return "any"
    if ports == OPAQUE_PORTS:
        return "opaque"
    return str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


@lru_cache(32)  # a gateway's own network is in every one of its tunnels
def parse_selector(text: str) -> TrafficSelector:
    """Parse a selector; raises ValueError that names the invalid part."""
    parts = _SELECTOR.fullmatch(text.strip())
    if parts is None:
        raise ValueError(f"invalid traffic selector {text!r}; examples: 10.0.0.0/24, 10.0.0.1-10.0.0.9[tcp/443]")
    protocol = parse_protocol(parts["protocol"]) if parts["protocol"] else 0
    ports = parse_ports(parts["ports"]) if parts["ports"] else ANY_PORTS
    check_ports(protocol, ports)
    return TrafficSelector(_parse_addresses(parts["addresses"]), protocol, ports)


def check_ports(protocol: int, ports: Ports) -> None:
    """ValueError if a protocol without ports is combined with ports."""
    if ports != ANY_PORTS and protocol not in WITH_PORTS:
        raise ValueError(f"protocol {format_protocol(protocol)} has no ports: remove them, or use tcp, udp or sctp")


def parse_protocol(text: object) -> int:
    """A protocol by name or number; `any` is 0."""
    word = _ALIASES.get(str(text), str(text))
    if word == "any":
        return 0
    if word in PROTOCOLS:
        return PROTOCOLS[word]
    if word.isascii() and word.isdigit() and int(word) < 256:
        return int(word)
    raise ValueError(f"unknown protocol {text!r}: use a name such as tcp, udp, icmp, or a number from 0 to 255")


def parse_ports(value: object) -> Ports:
    """A port, a range (`1024-2048`), `any` or `opaque`."""
    text = str(value)
    if text in ("any", "opaque"):
        return ANY_PORTS if text == "any" else OPAQUE_PORTS
    first, separator, last = text.partition("-")
    numbers = [int(part) if part.isascii() and part.isdigit() else -1 for part in (first, last if separator else first)]
    if not 0 <= numbers[0] <= numbers[1] <= 65_535:
        raise ValueError(f"invalid ports {text!r}; examples: 443, 1024-2048, any, opaque")
    return numbers[0], numbers[1]


def _parse_addresses(text: str) -> IPNetwork | AddressRange | None:
    if text == DYNAMIC:
        return None
    first, separator, last = text.partition("-")
    if not separator:
        return parse_network(text)
    try:
        bounds = AddressRange(ip_address(first.strip()), ip_address(last.strip()))
    except ValueError:
        raise ValueError(f"invalid range of addresses {text!r}; example: 10.0.0.10-10.0.0.20") from None
    if bounds.first.version != bounds.last.version or int(bounds.first) > int(bounds.last):
        raise ValueError(f"the range {text!r} must run from the lower to the higher address of one IP version")
    if len(networks := TrafficSelector(bounds).networks) == 1:
        return networks[0]
    return bounds


def _selector(value: object) -> TrafficSelector:
    if isinstance(value, str):  # first: every report of an agent has one for each SA and side
        return parse_selector(value)
    if isinstance(value, TrafficSelector):
        return value
    if isinstance(value, IPv4Network | IPv6Network):
        return TrafficSelector(value)
    return parse_selector("")


def _protocol(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a protocol name such as tcp, or a number from 0 to 255")
    return parse_protocol(value)


def _ports(value: object) -> Ports:
    if isinstance(value, tuple) and len(value) == 2:
        value = format_ports(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("must be a port or a range such as 1024-2048")
    return parse_ports(value)


# In JSON: the text of a selector, of a protocol, of a range of ports.
Selector = Annotated[
    TrafficSelector, PlainValidator(_selector), PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "traffic-selector", "examples": ["10.0.0.0/24[tcp/443]"]}),
]  # fmt: skip
Protocol = Annotated[
    int, PlainValidator(_protocol), PlainSerializer(lambda it: format_protocol(it) if it else "any", return_type=str),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 255}], "examples": ["tcp"]}),
]  # fmt: skip
PortRange = Annotated[
    tuple[int, int], PlainValidator(_ports), PlainSerializer(format_ports, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 65_535}], "examples": ["443"]}),
]  # fmt: skip
