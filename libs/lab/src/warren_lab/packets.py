"""Frames as a gateway's WAN link carries them. Pure; reads the outer headers only."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

_ETHERNET_BYTES = 14
_IPV4, _IPV6 = 0x0800, 0x86DD
_UDP, _ESP = 17, 50
_IKE_PORT, _NAT_T_PORT = 500, 4500
_KEEPALIVE = b"\xff"


@dataclass(frozen=True)
class Outer:
    """The outer addresses of a frame, and its SPI if it carries ESP."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    spi: int | None = None
    udp_encapsulated: bool = False
    is_ike: bool = False


def parse_frame(frame: bytes) -> Outer | None:
    """The outer facts of an Ethernet frame, or None where it is not a whole IP packet (ARP, a truncated frame)."""
    if len(frame) < _ETHERNET_BYTES:
        return None
    kind = int.from_bytes(frame[12:14], "big")
    packet = frame[_ETHERNET_BYTES:]
    if kind == _IPV4 and len(packet) >= 20:
        header_bytes = (packet[0] & 0x0F) * 4
        source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
        is_later_fragment = int.from_bytes(packet[6:8], "big") & 0x1FFF != 0
        payload = b"" if is_later_fragment else packet[header_bytes:]
        return _parse_transport(source, destination, packet[9], payload)
    if kind == _IPV6 and len(packet) >= 40:
        return _parse_transport(IPv6Address(packet[8:24]), IPv6Address(packet[24:40]), packet[6], packet[40:])
    return None


def _parse_transport(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, protocol: int, payload: bytes
) -> Outer:
    """ESP is protocol 50 (RFC 4303, 2), or in UDP port 4500 what does not begin with four zero bytes (RFC 3948, 2)."""
    if protocol == _ESP and len(payload) >= 8:
        return Outer(source, destination, spi=int.from_bytes(payload[:4], "big"))
    if protocol != _UDP or len(payload) < 8:
        return Outer(source, destination)
    ports = struct.unpack_from("!HH", payload)
    data = payload[8:]
    if _NAT_T_PORT in ports and data != _KEEPALIVE and len(data) >= 8:
        spi = int.from_bytes(data[:4], "big")
        return Outer(source, destination, is_ike=True) if spi == 0 else Outer(source, destination, spi, True)
    return Outer(source, destination, is_ike=_IKE_PORT in ports)
