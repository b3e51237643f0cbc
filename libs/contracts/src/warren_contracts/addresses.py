"""Addresses, networks and host names: `ipaddress` objects in Python, strings in JSON, one error message if invalid.

A union of pydantic's own types would report one invalid address as an error for each type, under paths that are not fields.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

IKE_PORT = 500
_WITH_PORT = re.compile(r"(?:\[(?P<host>[^\]]+)\]|(?P<name>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_OCTET = r"(0|[1-9][0-9]{0,2})"
_IPV4_NETWORK = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}/(0|[1-9][0-9]?)")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")  # RFC 1123, 2.1: 253 characters in all


def _address(value: object) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        return ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("invalid IP address; examples: 192.0.2.1, 2001:db8::1") from None


def _network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    return parse_network(value if isinstance(value, str) else "")


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """Parse a network; the ValueError says what is wrong and gives an example."""
    try:
        return _parse_ipv4(text) or ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            meant = ip_network(text, strict=False)
            raise ValueError(f"the network has host bits set; did you mean {meant}?") from None
        raise ValueError("invalid network; examples: 10.0.0.0/24, 2001:db8::/48") from None


def _parse_ipv4(text: str) -> IPv4Network | None:
    """`10.0.0.0/24` in half the time that ipaddress takes, for 10,000 networks of a fleet; None for any other form."""
    if (parts := _IPV4_NETWORK.fullmatch(text)) is None:
        return None
    first, second, third, fourth, length = map(int, parts.groups())
    if max(first, second, third, fourth) > 255 or length > 32:
        return None  # ipaddress gives the reason
    return IPv4Network((first << 24 | second << 16 | third << 8 | fourth, length))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An IKE endpoint: an IP address or a host name that is resolved when it is used, and its UDP port if it is not 500.

    As text: `192.0.2.1`, `192.0.2.1:4500`, `[2001:db8::1]:4500`, `gw.example.org`.
    """

    host: IPv4Address | IPv6Address | str
    port: int | None = None

    def __str__(self) -> str:
        if self.port is None:
            return str(self.host)
        return f"[{self.host}]:{self.port}" if isinstance(self.host, IPv6Address) else f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Parse an endpoint; raises ValueError."""
    parts = _WITH_PORT.fullmatch(text)
    if parts is None or (not text.startswith("[") and text.count(":") > 1):
        return Endpoint(_host(text))
    port = int(parts["port"])
    if not 0 < port < 65_536:
        raise ValueError(f"invalid port {port}: must be 1 to 65535")
    host = _host(parts["host"] or parts["name"])
    if parts["host"] and not isinstance(host, IPv6Address):
        raise ValueError("brackets are for IPv6 addresses; example: [2001:db8::1]:4500")
    return Endpoint(host, None if port == IKE_PORT else port)


_BROADCAST = IPv4Address("255.255.255.255")


def is_one_host(endpoint: Endpoint) -> bool:
    """Whether an endpoint can be one gateway: a name, or an address that is neither unspecified, multicast nor broadcast."""
    host = endpoint.host
    return isinstance(host, str) or not (host.is_unspecified or host.is_multicast or host == _BROADCAST)


def common_port(endpoints: Iterable[Endpoint]) -> int:
    """The port of all endpoints of one end; ValueError if they differ."""
    ports = sorted({endpoint.port or IKE_PORT for endpoint in endpoints})
    if len(ports) > 1:
        raise ValueError(f"the addresses of one end must have the same port, not {', '.join(map(str, ports))}")
    return ports[0] if ports else IKE_PORT


def _host(text: str) -> IPv4Address | IPv6Address | str:
    try:
        return _address(text)
    except ValueError:
        # If the last label is all digits, it is an invalid address rather than a name (RFC 1123, 2.1).
        if _HOST_NAME.fullmatch(text) and text.rsplit(".", 1)[-1].strip("0123456789"):
            return text
    raise ValueError("invalid IP address or host name")


def _endpoint(value: object) -> Endpoint:
    if isinstance(value, Endpoint):
        return value
    if isinstance(value, IPv4Address | IPv6Address):
        return Endpoint(value)
    return parse_endpoint(value if isinstance(value, str) else "")


_TEXT = PlainSerializer(str, return_type=str, when_used="json")
_ADDRESS = {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]}

IPAddress = Annotated[IPv4Address | IPv6Address, PlainValidator(_address), _TEXT, WithJsonSchema(_ADDRESS)]
IPNetwork = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_network),
    _TEXT,
    WithJsonSchema({"type": "string", "format": "ipnetwork"}),
]
# In JSON an endpoint is its text.
EndpointText = Annotated[
    Endpoint,
    PlainValidator(_endpoint),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                *_ADDRESS["anyOf"],
                {"type": "string", "format": "hostname"},
                {"type": "string", "format": "host-port", "examples": ["192.0.2.1:4500", "[2001:db8::1]:4500"]},
            ]
        }
    ),
]
