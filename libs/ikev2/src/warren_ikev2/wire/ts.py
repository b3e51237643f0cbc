"""The TS payload (RFC 7296, 3.13)."""

from ipaddress import IPv4Address, IPv6Address

from warren_ikev2.errors import MalformedMessageError
from warren_ikev2.selectors import Selectors, TrafficSelector
from warren_ikev2.wire.reader import ByteReader

_IPV4_RANGE = 7
_IPV6_RANGE = 8


def parse_selectors(data: bytes) -> Selectors:
    """All address ranges; selectors of a type that we do not know are left out (RFC 7296, 2.9)."""
    reader = ByteReader(data)
    count = reader.number(1)
    reader.take(3)
    found = []
    for _ in range(count):
        kind, protocol, length = reader.number(1), reader.number(1), reader.number(2)
        selector = _parse_selector(kind, protocol, ByteReader(reader.take(length - 4)))
        if selector is not None:
            found.append(selector)
    reader.finish()
    return tuple(found)


def build_selectors(selectors: Selectors) -> bytes:
    """The payload's body."""
    return bytes([len(selectors), 0, 0, 0]) + b"".join(_build_selector(selector) for selector in selectors)


def _parse_selector(kind: int, protocol: int, reader: ByteReader) -> TrafficSelector | None:
    start_port, end_port = reader.number(2), reader.number(2)
    start: IPv4Address | IPv6Address
    end: IPv4Address | IPv6Address
    if kind == _IPV4_RANGE:
        start, end = IPv4Address(reader.take(4)), IPv4Address(reader.take(4))
    elif kind == _IPV6_RANGE:
        start, end = IPv6Address(reader.take(16)), IPv6Address(reader.take(16))
    else:
        return None
    reader.finish()
    if int(start) > int(end):
        raise MalformedMessageError("a traffic selector ends before it starts")
    return TrafficSelector(start, end, protocol, start_port, end_port)


def _build_selector(selector: TrafficSelector) -> bytes:
    body = selector.start_port.to_bytes(2, "big") + selector.end_port.to_bytes(2, "big")
    body += selector.start.packed + selector.end.packed
    kind = _IPV4_RANGE if selector.version == 4 else _IPV6_RANGE
    return bytes([kind, selector.protocol]) + (len(body) + 4).to_bytes(2, "big") + body
