"""Addresses, networks and host names: `ipaddress` objects in Python, text in JSON, one clear message when they are wrong.

A union of pydantic's own types would answer one bad address with an error for each type, under paths that nobody wrote.
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
        raise ValueError("this is no IP address: write one such as 192.0.2.1 or 2001:db8::1") from None


def _network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = value if isinstance(value, str) else ""
    try:
        return ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            meant = ip_network(text, strict=False)
            raise ValueError(f"this network has host bits set: {meant} may be meant") from None
        raise ValueError("this is no network: write one such as 10.0.0.0/24 or 2001:db8::/48") from None


def _endpoint(value: object) -> IPv4Address | IPv6Address | str:
    try:
        return _address(value)
    except ValueError:
        # A last label of digits is a mistyped address and no name (RFC 1123, 2.1).
        if isinstance(value, str) and _HOST_NAME.fullmatch(value) and value.rsplit(".", 1)[-1].strip("0123456789"):
            return value
    raise ValueError("this is neither an IP address nor a host name")


_TEXT = PlainSerializer(str, return_type=str, when_used="json")
_ADDRESS = {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]}

IPAddress = Annotated[IPv4Address | IPv6Address, PlainValidator(_address), _TEXT, WithJsonSchema(_ADDRESS)]
IPNetwork = Annotated[
    IPv4Network | IPv6Network,
    PlainValidator(_network),
    _TEXT,
    WithJsonSchema({"type": "string", "format": "ipnetwork"}),
]
# An address where the text is one, else a name that is resolved when it is used.
Endpoint = Annotated[
    IPv4Address | IPv6Address | str,
    PlainValidator(_endpoint),
    _TEXT,
    WithJsonSchema({"anyOf": [*_ADDRESS["anyOf"], {"type": "string", "format": "hostname"}]}),
]
