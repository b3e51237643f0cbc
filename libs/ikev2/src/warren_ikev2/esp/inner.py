"""Parsing of the packets that ESP carries: IPv4 (RFC 791) and IPv6 (RFC 8200), which are not trusted."""

from typing import NamedTuple

PROTO_IPV4 = 4
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_IPV6 = 41
PROTO_FRAGMENT = 44
PROTO_ICMP = 1
PROTO_ICMPV6 = 58
PROTO_NO_NEXT = 59
"""Also ESP's next header of a dummy packet (RFC 4303, 2.6)."""

_EXTENSIONS = frozenset({0, 43, 60, 135})
"""Hop-by-hop, routing, destination options, mobility: eight-byte units with a length byte (RFC 8200, 4)."""
_PORTS = frozenset({PROTO_TCP, PROTO_UDP, 33, 132, 136})
"""TCP, UDP, DCCP, SCTP, UDP-Lite: ports in the first four bytes."""
_IPV4_HEADER = tuple(4 * (first & 15) if first >> 4 == 4 and first & 15 >= 5 else 0 for first in range(256))
"""First byte of a packet -> bytes of its IPv4 header, or 0 where it is not one."""
OPAQUE = -1
"""Ports that cannot be seen: a later fragment, or cut off (RFC 4301, 4.4.1.1)."""


class SelectorFields(NamedTuple):
    """The selector fields of a packet (RFC 4301, 4.4.1.1). ICMP type and code stand in `source_port` as one number."""

    source: bytes
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int


def packet_length(packet: bytes) -> int:
    """The length in bytes that the header claims, or 0 if it is not an IP header or its length is too small."""
    available = len(packet)
    if available >= 20:
        shortest = _IPV4_HEADER[packet[0]]
        if shortest:
            length = packet[2] << 8 | packet[3]
            return length if length >= shortest else 0
        if available >= 40 and packet[0] >> 4 == 6:
            return 40 + (packet[4] << 8 | packet[5])
    return 0


def parse_flow(packet: bytes) -> SelectorFields | None:
    """The selector fields of a packet with a sound header (see `packet_length`); `None` where there are none."""
    if packet[0] >> 4 == 4:
        offset = (packet[0] & 15) * 4
        later_fragment = (packet[6] & 0x1F) << 8 | packet[7]
        return _flow(packet, packet[12:16], packet[16:20], packet[9], len(packet) if later_fragment else offset)
    protocol, offset = packet[6], 40
    for _ in range(8):  # a longer chain is an attack on the parser
        if protocol == PROTO_FRAGMENT and len(packet) >= offset + 8:
            later = packet[offset + 2] << 8 | packet[offset + 3] & 0xF8
            protocol, offset = packet[offset], len(packet) if later else offset + 8
        elif protocol in _EXTENSIONS and len(packet) >= offset + 8:
            protocol, offset = packet[offset], offset + 8 * (packet[offset + 1] + 1)
        else:
            return _flow(packet, packet[8:24], packet[24:40], protocol, offset)
    return None


def _flow(packet: bytes, source: bytes, destination: bytes, protocol: int, offset: int) -> SelectorFields:
    head = packet[offset : offset + 4]
    if protocol in _PORTS and len(head) == 4:
        return SelectorFields(source, destination, protocol, head[0] << 8 | head[1], head[2] << 8 | head[3])
    if protocol in (PROTO_ICMP, PROTO_ICMPV6) and len(head) >= 2:
        # RFC 4301, 4.4.1.1: type and code in one 16-bit field, which IKE puts where the ports are
        both = head[0] << 8 | head[1]
        return SelectorFields(source, destination, protocol, both, both)
    return SelectorFields(source, destination, protocol, OPAQUE, OPAQUE)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) & 1:
        data += b"\0"
    number = int.from_bytes(data, "big")
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


def with_tos(packet: bytes, tos: int) -> bytes:
    """The packet with another DSCP and ECN byte, and an IPv4 header checksum to match (RFC 1624, equation 3)."""
    if packet[0] >> 4 == 6:
        return bytes((packet[0] & 0xF0 | tos >> 4, packet[1] & 0x0F | (tos & 15) << 4)) + packet[2:]
    header = bytearray(packet[: (packet[0] & 15) * 4])
    header[1] = tos
    header[10:12] = b"\0\0"
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    return bytes(header) + packet[len(header) :]


def tos_of(packet: bytes) -> int:
    """The DSCP and ECN byte."""
    return packet[1] if packet[0] >> 4 == 4 else (packet[0] & 15) << 4 | packet[1] >> 4
