"""Read the UDP datagrams of captures of tcpdump and Wireshark (pcap and pcapng).

The input is not trusted, and at most one packet is in memory. Packets that cannot be read are counted.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import BinaryIO

from warren_ikev2.addresses import Path, SocketAddress
from warren_ikev2.errors import MalformedCaptureError

_PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6), b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9), b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}  # fmt: skip
"""Magic number -> byte order, seconds of a time unit."""
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_LITTLE = b"\x4d\x3c\x2b\x1a"
_MAX_BLOCK = 16 << 20
"""Bytes; a longer packet is a sign of a damaged file."""
_MAX_INTERFACES = 10_000
"""Of one section of a pcapng file."""
_MAX_KINDS = 64
"""Unknown numbers of one kind that are counted separately; the others are counted as -1."""
_UDP, _FRAGMENT, _AH = 17, 44, 51
_IPV4, _IPV6, _PPPOE = 0x0800, 0x86DD, 0x8864
_VLAN = (0x8100, 0x88A8)
_PPP = {0x0021: _IPV4, 0x0057: _IPV6}
"""Protocol numbers of PPP (RFC 1661, 2)."""
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})
"""IPv6 extension headers with a length field in units of eight bytes (RFC 8200, 4; IANA)."""
_MAX_EXTENSIONS = 8


@dataclass(frozen=True, slots=True)
class CapturedDatagram:
    """One UDP payload. `time` is in seconds since 1970, whatever the file claims; `path.local` is the sender."""

    time: float
    path: Path
    data: bytes


@dataclass(slots=True)
class Missed:
    """The packets of a capture that were skipped, by reason."""

    links: Counter[int] = field(default_factory=Counter)
    """Packets by unknown link type."""
    ethertypes: Counter[int] = field(default_factory=Counter)
    """Frames that hold no IP, by ethertype."""
    protocols: Counter[int] = field(default_factory=Counter)
    """IP packets that hold no UDP, by protocol."""
    fragments: int = 0
    """IP fragments, which are not reassembled."""
    cut: int = 0
    """UDP datagrams that the capture truncated (tcpdump -s)."""


def read_capture(file: BinaryIO, missed: Missed | None = None) -> Iterator[CapturedDatagram]:
    """Every whole UDP datagram of a pcap or pcapng file. Raises `MalformedCaptureError` if it is neither, or truncated."""
    missed = Missed() if missed is None else missed
    magic = file.read(4)
    for time, link, frame in _read_pcapng(file) if magic == _PCAPNG else _read_pcap(file, magic):
        strip = _LINKS.get(link)
        if strip is None:
            _count(missed.links, link)
            continue
        found = _parse_udp(strip(frame, missed), missed)
        if found is not None:
            yield CapturedDatagram(time, *found)


def _count(counter: Counter[int], number: int) -> None:
    counter[number if number in counter or len(counter) < _MAX_KINDS else -1] += 1


def _take(file: BinaryIO, size: int) -> bytes:
    """Read so many bytes. MalformedCaptureError: the file ends before, or the size exceeds the limit of a packet."""
    data = file.read(size) if 0 <= size <= _MAX_BLOCK else b""
    if len(data) != size:
        raise MalformedCaptureError
    return data


def _read_pcap(file: BinaryIO, magic: bytes) -> Iterator[tuple[float, int, bytes]]:
    if magic not in _PCAP:
        raise MalformedCaptureError
    order, unit = _PCAP[magic]
    link = struct.unpack_from(order + "I", _take(file, 20), 16)[0] & 0xFFFF
    while start := file.read(1):
        seconds, fraction, length, _ = struct.unpack(order + "IIII", start + _take(file, 15))
        yield seconds + fraction * unit, link, _take(file, length)


def _read_pcapng(file: BinaryIO) -> Iterator[tuple[float, int, bytes]]:
    """Section headers, interface descriptions, enhanced and simple packets; other blocks are skipped."""
    order = "<"
    links: list[tuple[int, float]] = []
    start = _PCAPNG
    while start:
        start += _take(file, 8 - len(start))
        if start[:4] == _PCAPNG:
            section = _take(file, 4)
            order, links = "<" if section == _LITTLE else ">", []
            length = struct.unpack_from(order + "I", start, 4)[0]
            _take(file, length - 12)
        else:
            kind, length = struct.unpack(order + "II", start)
            body = _take(file, length - 8)[:-4]
            if length < 12:
                raise MalformedCaptureError
            yield from _read_block(order, kind, body, links)
        start = file.read(1)


def _read_block(
    order: str, kind: int, body: bytes, links: list[tuple[int, float]]
) -> Iterator[tuple[float, int, bytes]]:
    if kind == 1 and len(body) >= 8:
        if len(links) >= _MAX_INTERFACES:
            raise MalformedCaptureError
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
    at = 0  # an offset: slices of what is left would make it quadratic
    while at + 4 <= len(options):
        kind, length = struct.unpack_from(order + "HH", options, at)
        if kind == 9 and length == 1 and at + 4 < len(options):
            value = options[at + 4]
            return float(2.0 ** -(value & 0x7F) if value & 0x80 else 10.0**-value)
        at += 4 + (length + 3 & ~3)
    return 1e-6


def _strip_ethernet(frame: bytes, missed: Missed) -> bytes:
    return _strip_ethertype(frame[12:], missed)


def _strip_ethertype(frame: bytes, missed: Missed) -> bytes:
    """The IP packet behind an ethertype, VLAN tags and PPPoE (RFC 2516, 4); empty: there is none."""
    at = 0
    while len(frame) >= at + 2 and int.from_bytes(frame[at : at + 2], "big") in _VLAN:
        at += 4
    ethertype = int.from_bytes(frame[at : at + 2], "big")
    at += 2
    if ethertype == _PPPOE and len(frame) >= at + 8:
        ethertype = _PPP.get(int.from_bytes(frame[at + 6 : at + 8], "big"), ethertype)
        at += 8
    if ethertype in (_IPV4, _IPV6):
        return frame[at:]
    _count(missed.ethertypes, ethertype)
    return b""


def _raw(frame: bytes, _: Missed) -> bytes:
    return frame


_LINKS: dict[int, Callable[[bytes, Missed], bytes]] = {
    0: lambda frame, _: frame[4:],  # BSD loopback
    1: _strip_ethernet,
    12: _raw,
    101: _raw,
    113: lambda frame, missed: _strip_ethertype(frame[14:], missed),  # Linux "any" device
    228: _raw,  # IPv4
    229: _raw,  # IPv6
    276: lambda frame, missed: _strip_ethertype(frame[:2] + frame[20:], missed),  # Linux "any" device, second version
}


def _parse_udp(packet: bytes, missed: Missed) -> tuple[Path, bytes] | None:
    version = packet[0] >> 4 if len(packet) >= 28 else 0
    if version == 4:
        protocol, start = packet[9], (packet[0] & 15) * 4
        fragment = bool(packet[6] & 0x3F or packet[7])
        source, destination = packet[12:16], packet[16:20]
    elif version == 6 and len(packet) >= 48:
        protocol, start, fragment = _walk_extensions(packet)
        source, destination = packet[8:24], packet[24:40]
    else:
        return None
    if protocol != _UDP:
        _count(missed.protocols, protocol)
        return None
    if fragment:
        missed.fragments += 1
        return None
    if len(packet) < start + 8:
        return None
    sport, dport, length = struct.unpack_from(">HHH", packet, start)
    data = packet[start + 8 : start + length]
    if length < 8 or len(data) != length - 8:
        missed.cut += length >= 8
        return None
    return Path(SocketAddress(ip_address(source), sport), SocketAddress(ip_address(destination), dport)), data


def _walk_extensions(packet: bytes) -> tuple[int, int, bool]:
    """The protocol behind the extension headers of IPv6, where it begins, and whether the packet is a fragment (RFC 8200, 4)."""
    protocol, at, fragment = packet[6], 40, False
    for _ in range(_MAX_EXTENSIONS):
        if len(packet) < at + 8:
            break
        if protocol == _FRAGMENT:
            fragment = fragment or int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF9 != 0
            protocol, at = packet[at], at + 8
        elif protocol == _AH:
            protocol, at = packet[at], at + (packet[at + 1] + 2) * 4
        elif protocol in _EXTENSIONS:
            protocol, at = packet[at], at + (packet[at + 1] + 1) * 8
        else:
            break
    return protocol, at, fragment
