"""Capture files: UDP datagrams and ESP packets out of pcap and pcapng bytes. Pure; what it does not know it skips."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.errors import MalformedCaptureError

_PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6), b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9), b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}  # fmt: skip
"""Magic number -> byte order, seconds of a time unit."""
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_MAX_BLOCK = 16 << 20
"""Bytes; longer is no packet but a damaged file."""
_UDP, _IPV4, _IPV6 = 17, 0x0800, 0x86DD
_VLAN = (0x8100, 0x88A8)


@dataclass(frozen=True, slots=True)
class CapturedDatagram:
    """One UDP payload. `time` is in seconds since 1970; `path.local` is the sender."""

    time: float
    path: Path
    data: bytes


def read_capture(data: bytes) -> Iterator[CapturedDatagram]:
    """Every whole UDP datagram of a pcap or pcapng file. Raises `MalformedCaptureError` if it is neither, or cut."""
    frames = _read_pcapng(data) if data[:4] == _PCAPNG else _read_pcap(data)
    for time, link, frame in frames:
        strip = _LINKS.get(link)
        packet = strip(frame) if strip else b""
        found = _parse_udp(packet)
        if found is not None:
            yield CapturedDatagram(time, *found)


def _read_pcap(data: bytes) -> Iterator[tuple[float, int, bytes]]:
    if data[:4] not in _PCAP or len(data) < 24:
        raise MalformedCaptureError
    order, unit = _PCAP[data[:4]]
    link = struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF
    at = 24
    while at < len(data):
        if at + 16 > len(data):
            raise MalformedCaptureError
        seconds, fraction, length, _ = struct.unpack_from(order + "IIII", data, at)
        at += 16
        if length > _MAX_BLOCK or at + length > len(data):
            raise MalformedCaptureError
        yield seconds + fraction * unit, link, data[at : at + length]
        at += length


def _read_pcapng(data: bytes) -> Iterator[tuple[float, int, bytes]]:
    """Section headers, interface descriptions, enhanced and simple packets; other blocks are skipped."""
    order, at = "<", 0
    links: list[tuple[int, float]] = []
    while at < len(data):
        if at + 12 > len(data):
            raise MalformedCaptureError
        if data[at : at + 4] == _PCAPNG:
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            links = []
        kind, length = struct.unpack_from(order + "II", data, at)
        if length < 12 or length > _MAX_BLOCK or at + length > len(data):
            raise MalformedCaptureError
        body = data[at + 8 : at + length - 4]
        at += length
        if kind == 1 and len(body) >= 8:
            links.append((struct.unpack_from(order + "H", body)[0], _time_unit(order, body[8:])))
        elif kind == 6 and len(body) >= 20:
            interface, high, low, captured, _ = struct.unpack_from(order + "IIIII", body)
            if interface < len(links):
                link, unit = links[interface]
                yield (high << 32 | low) * unit, link, body[20 : 20 + captured]
        elif kind == 3 and len(body) >= 4 and links:
            yield 0.0, links[0][0], body[4:]


def _time_unit(order: str, options: bytes) -> float:
    """The option if_tsresol: a power of ten, or of two with the top bit set; microseconds without it."""
    while len(options) >= 4:
        kind, length = struct.unpack_from(order + "HH", options)
        if kind == 9 and length == 1 and len(options) > 4:
            value = options[4]
            return float(2.0 ** -(value & 0x7F) if value & 0x80 else 10.0**-value)
        options = options[4 + (length + 3 & ~3) :]
    return 1e-6


def _strip_ethernet(frame: bytes) -> bytes:
    at = 12
    while frame[at : at + 2] and int.from_bytes(frame[at : at + 2], "big") in _VLAN:
        at += 4
    return frame[at + 2 :] if int.from_bytes(frame[at : at + 2], "big") in (_IPV4, _IPV6) else b""


_LINKS: dict[int, Callable[[bytes], bytes]] = {
    0: lambda frame: frame[4:],  # BSD loopback
    1: _strip_ethernet,
    12: lambda frame: frame,  # raw IP
    101: lambda frame: frame,  # raw IP
    113: lambda frame: frame[16:],  # Linux "any" device
    228: lambda frame: frame,  # raw IPv4
    229: lambda frame: frame,  # raw IPv6
    276: lambda frame: frame[20:],  # Linux "any" device, second version
}


def _parse_udp(packet: bytes) -> tuple[Path, bytes] | None:
    version = packet[0] >> 4 if len(packet) >= 28 else 0
    if version == 4 and packet[9] == _UDP and not (packet[6] & 0x3F or packet[7]):
        start = (packet[0] & 15) * 4
        source, destination = packet[12:16], packet[16:20]
    elif version == 6 and len(packet) >= 48 and packet[6] == _UDP:
        start = 40
        source, destination = packet[8:24], packet[24:40]
    else:
        return None
    if len(packet) < start + 8:
        return None
    sport, dport, length = struct.unpack_from(">HHH", packet, start)
    data = packet[start + 8 : start + length]
    if length < 8 or len(data) != length - 8:
        return None
    return Path(SocketAddress(ip_address(source), sport), SocketAddress(ip_address(destination), dport)), data
