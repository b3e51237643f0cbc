"""Segmentation of one packet of a TUN device into the packets that it stands for, one at a time.

This is the reference for the batched segmentation in `seal` and `plain_seal`, and serves every packet that they do not.

IPv4 identifications: a packet without DF may be fragmented on its way, so each of its segments has its own, counted up as
the kernel does; with DF the field has no meaning (RFC 6864, 4.1), and all segments have the same.
"""

from typing import NamedTuple

from warren_ikev2.dataplane.checksum import (
    PROTO_TCP,
    PROTO_UDP,
    complement,
    completed,
    ones_complement_sum,
    pseudo_header,
    write_ipv4_checksum,
)
from warren_ikev2.dataplane.vnet import GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHeader
from warren_ikev2.esp.drops import DropReason, PacketDroppedError

TCP_FIN_PSH, TCP_CWR = 0x09, 0x80
_UDP_HEADER = 8
_DF = 0x40
_IPV6_HEADER = 40


class TransportShape(NamedTuple):
    """Where the headers of a packet with offloads end."""

    version: int
    transport: int
    """Offset of the TCP or UDP header."""
    payload: int
    """Offset of the first payload byte."""


def transport_shape(packet: bytes | bytearray | memoryview, header: VnetHeader) -> TransportShape | None:
    """Check the headers of a GSO packet against each other; `None` where they contradict each other."""
    kind, start = header.segment_type, header.checksum_start
    if len(packet) < start + 20 or not header.gso_size or kind not in (GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4):
        return None
    version = packet[0] >> 4
    if version == 4:
        sound = start >= 20 and start == (packet[0] & 15) * 4 and kind != GSO_TCPV6 and not packet[6] & 0x3F | packet[7]
    else:
        sound = version == 6 and start >= _IPV6_HEADER and kind != GSO_TCPV4
    length = packet[start + 12] >> 4 << 2 if kind != GSO_UDP_L4 else _UDP_HEADER
    if not sound or length < (_UDP_HEADER if kind == GSO_UDP_L4 else 20) or start + length >= len(packet):
        return None
    return TransportShape(version, start, start + length)


def segment(packet: bytes, header: VnetHeader) -> list[bytes]:
    """The packets that a packet of the TUN device stands for, with complete checksums.

    Raises `PacketDroppedError(MALFORMED)` if the header contradicts the packet.
    """
    if header.gso_type == GSO_NONE:
        return [_finished(packet, header)]
    shape = transport_shape(packet, header)
    if shape is None:
        raise PacketDroppedError(DropReason.MALFORMED)
    size, total = header.gso_size, len(packet)
    count = -(-(total - shape.payload) // size)
    build = _udp_datagram if header.segment_type == GSO_UDP_L4 else tcp_segment
    segments = []
    for number in range(count):
        at = shape.payload + number * size
        segments.append(build(packet, shape, number, at, packet[at : at + size]))
    return segments


def _finished(packet: bytes, header: VnetHeader) -> bytes:
    if not header.flags & NEEDS_CSUM:
        return packet
    try:
        return completed(packet, (header.checksum_start, header.checksum_offset))
    except ValueError:
        raise PacketDroppedError(DropReason.MALFORMED) from None


def tcp_segment(packet: bytes, shape: TransportShape, number: int, at: int, payload: bytes) -> bytes:
    """Segment `number` of a TCP packet; its payload begins at offset `at` of the packet."""
    head = build_headers(packet, shape, number, len(payload))
    tcp = shape.transport
    sequence = int.from_bytes(packet[tcp + 4 : tcp + 8], "big") + at - shape.payload
    head[tcp + 4 : tcp + 8] = (sequence & 0xFFFFFFFF).to_bytes(4, "big")
    if number:
        head[tcp + 13] &= ~TCP_CWR & 0xFF
    if at + len(payload) < len(packet):
        head[tcp + 13] &= ~TCP_FIN_PSH & 0xFF
    value = _checksum(head, tcp, 16, PROTO_TCP, payload)
    head[tcp + 16 : tcp + 18] = value.to_bytes(2, "big")
    return bytes(head) + payload


def _udp_datagram(packet: bytes, shape: TransportShape, number: int, at: int, payload: bytes) -> bytes:
    del at
    head = build_headers(packet, shape, number, len(payload))
    udp = shape.transport
    head[udp + 4 : udp + 6] = (_UDP_HEADER + len(payload)).to_bytes(2, "big")
    value = _checksum(head, udp, 6, PROTO_UDP, payload) or 0xFFFF  # zero means that there is none (RFC 768)
    head[udp + 6 : udp + 8] = value.to_bytes(2, "big")
    return bytes(head) + payload


def build_headers(packet: bytes, shape: TransportShape, number: int, payload_length: int) -> bytearray:
    """All headers of a segment, with the length and, for IPv4, the identification and checksum of its own."""
    head = bytearray(packet[: shape.payload])
    length = shape.payload + payload_length
    if shape.version == 6:
        head[4:6] = (length - _IPV6_HEADER).to_bytes(2, "big")
        return head
    head[2:4] = length.to_bytes(2, "big")
    if not head[6] & _DF:
        identification = int.from_bytes(packet[4:6], "big") + number
        head[4:6] = (identification & 0xFFFF).to_bytes(2, "big")
    write_ipv4_checksum(head, shape.transport)
    return head


def _checksum(head: bytearray, start: int, offset: int, protocol: int, payload: bytes) -> int:
    head[start + offset : start + offset + 2] = b"\0\0"
    length = len(head) - start + len(payload)
    total = ones_complement_sum(head[start:]) + ones_complement_sum(payload)
    return complement(total + pseudo_header(head, protocol, length))
