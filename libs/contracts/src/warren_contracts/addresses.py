"""Addresses, networks and host names: `ipaddress` objects in Python, strings in JSON, one error message if invalid.

A union of pydantic's own types would report one invalid address as an error for each type, under paths that are not fields.
"""

import re
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
    text = value if isinstance(value, str) else ""
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            meant = ip_network(text, strict=False)
            raise ValueError(f"the network has host bits set; did you mean {meant}?") from None
        raise ValueError("invalid network; examples: 10.0.0.0/24, 2001:db8::/48") from None


def _endpoint(value: object) -> IPv4Address | IPv6Address | str:
    try:
        return _address(value)
    except ValueError:
        # If the last label is all digits, it is an invalid address rather than a name (RFC 1123, 2.1).
        if isinstance(value, str) and _HOST_NAME.fullmatch(value) and value.rsplit(".", 1)[-1].strip("0123456789"):
            return value
    raise ValueError("invalid IP address or host name")


_TEXT = PlainSerializer(str, return_type=str, when_used="json")
_ADDRESS = {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]}

IPAddress = Annotated[IPv4Address | IPv6Address, PlainValidator(_address), _TEXT, WithJsonSchema(_ADDRESS)]
IPNetwork = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_network),
    _TEXT,
    WithJsonSchema({"type": "string", "format": "ipnetwork"}),
]
# An IP address, or a host name that is resolved when it is used.
Endpoint = Annotated[
    IPv4Address | IPv6Address | str,
    PlainValidator(_endpoint),
    _TEXT,
    WithJsonSchema({"anyOf": [*_ADDRESS["anyOf"], {"type": "string", "format": "hostname"}]}),
]
