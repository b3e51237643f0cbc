"""Packet sizes (RFC 4301, 8): the MTU of the tunnel, and the handling of longer packets.

An IPv4 packet without DF is fragmented before encryption, so that the peer need not reassemble. With DF, or
IPv6, the tunnel's MTU is reported to the sender by ICMP (RFC 792 and 1191; RFC 4443, 3.2) and the packet is dropped.
"""

from warren_ikev2.addresses import IPAddress
from warren_ikev2.esp.inner import PROTO_ICMP, PROTO_ICMPV6, checksum
from warren_ikev2.esp.transforms import HEADER_LENGTH, EspTransform

MIN_IPV6_MTU = 1280
"""Bytes. No IPv6 sender has to go below (RFC 8200, 5)."""
MIN_IPV4_MTU = 68
"""Bytes (RFC 791, 3.2): 60 of header and 8 of data, the least that can be fragmented."""
_UDP_HEADER = 8
_IP_HEADER = {4: 20, 6: 40}
_DF, _MF = 0x4000, 0x2000
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
"""Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 1122, 3.2.2)."""
_FIRST_ICMPV6_QUERY = 128
"""Lower types are errors (RFC 4443, 2.1)."""
_NO_HOSTS, _MULTICAST, _MULTICAST6 = frozenset({0, 127}), 224, 0xFF
"""First bytes of addresses: this network and loopback; multicast and above, with broadcast."""


def overhead(transform: EspTransform, outer_version: int, *, udp: bool = True) -> int:
    """The fixed bytes that ESP in tunnel mode adds, without padding and its two trailer bytes."""
    outer = _IP_HEADER[outer_version] + (_UDP_HEADER if udp else 0)
    return outer + HEADER_LENGTH + transform.iv_length + transform.icv_length


def inner_mtu(path_mtu: int, transform: EspTransform, outer_version: int, *, udp: bool = True) -> int:
    """The longest inner packet, in bytes, whose ESP packet fits into `path_mtu` bytes."""
    space = path_mtu - overhead(transform, outer_version, udp=udp)
    return space - space % transform.alignment - 2


def sealed_length(transform: EspTransform, length: int) -> int:
    """The length of the ESP packet, without UDP, of an inner packet of `length` bytes."""
    padded = length + 2 + -(length + 2) % transform.alignment
    return HEADER_LENGTH + transform.iv_length + padded + transform.icv_length


def may_fragment(packet: bytes) -> bool:
    """Whether the packet is IPv4 without DF."""
    return packet[0] >> 4 == 4 and not packet[6] & 0x40


def fragment_ipv4(packet: bytes, mtu: int) -> list[bytes]:
    """Cut an IPv4 packet into fragments of at most `mtu` bytes (RFC 791, 3.2); one that fits is returned unchanged."""
    if len(packet) <= mtu:
        return [packet]
    if mtu < MIN_IPV4_MTU:
        raise ValueError(f"mtu must be at least 68 bytes, not {mtu}")
    header_length = (packet[0] & 15) * 4
    header, data = packet[:header_length], packet[header_length:]
    flags = header[6] << 8 | header[7]
    fragments = []
    at = 0
    while at < len(data):
        head = header if at == 0 else _later_header(header)
        step = mtu - len(head) & ~7
        last = at + step >= len(data) and not flags & _MF
        word = (flags & ~_MF) + at // 8 | (0 if last else _MF)
        fragments.append(_ipv4(head, data[at : at + step], word))
        at += step
    return fragments


def _later_header(header: bytes) -> bytes:
    """The header with those options only that every fragment carries: the copied flag is their top bit."""
    options, kept = header[20:], b""
    while options and options[0] > 1:
        length = options[1] if len(options) > 1 and options[1] >= 2 else len(options)
        if options[0] & 0x80:
            kept += options[:length]
        options = options[length:]
    kept += bytes(-len(kept) % 4)
    return bytes((0x40 | (20 + len(kept)) // 4,)) + header[1:20] + kept


def _ipv4(header: bytes, data: bytes, flags_and_offset: int) -> bytes:
    head = bytearray(header)
    head[2:4] = (len(head) + len(data)).to_bytes(2, "big")
    head[6:8] = flags_and_offset.to_bytes(2, "big")
    head[10:12] = b"\0\0"
    head[10:12] = checksum(bytes(head)).to_bytes(2, "big")
    return bytes(head) + data


def may_be_answered(packet: bytes) -> bool:
    """Whether an ICMP error may be sent about a packet: not about errors, later fragments, nor from or to anything but a host
    (RFC 1122, 3.2.2; RFC 4443, 2.4 e).

    RFC 4443 allows this error for multicast, but the answer would come from the group's address, which nobody accepts.
    """
    if packet[0] >> 4 == 4:
        source, destination, header = packet[12], packet[16], (packet[0] & 15) * 4
        if source in _NO_HOSTS or source >= _MULTICAST or destination >= _MULTICAST or packet[6] & 0x1F or packet[7]:
            return False
        return packet[9] != PROTO_ICMP or packet[header] not in _ICMP_ERRORS
    if packet[8] == _MULTICAST6 or packet[24] == _MULTICAST6 or not any(packet[8:24]):
        return False
    return packet[6] != PROTO_ICMPV6 or packet[40] >= _FIRST_ICMPV6_QUERY


def build_too_big(packet: bytes, mtu: int, own: IPAddress | None = None) -> bytes:
    """Build the ICMP error that reports the tunnel's MTU to the sender of `packet`.

    `own` is the address of this gateway; a tunnel without one inside answers with the packet's destination.
    """
    if packet[0] >> 4 == 4:
        source = own.packed if own else packet[16:20]
        quoted = packet[: (packet[0] & 15) * 4 + 8]
        message = b"\x03\x04\0\0\0\0" + mtu.to_bytes(2, "big") + quoted
        message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
        head = b"\x45\xc0\0\0\0\0\0\0\x40" + bytes((PROTO_ICMP,)) + b"\0\0" + source + packet[12:16]
        return _ipv4(head, message, 0)
    quoted = packet[: MIN_IPV6_MTU - 48]
    message = b"\x02\0\0\0" + max(mtu, MIN_IPV6_MTU).to_bytes(4, "big") + quoted
    addresses = (own.packed if own else packet[24:40]) + packet[8:24]
    pseudo = addresses + len(message).to_bytes(4, "big") + bytes((0, 0, 0, PROTO_ICMPV6))
    message = message[:2] + checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    return b"\x6c\0\0\0" + len(message).to_bytes(2, "big") + bytes((PROTO_ICMPV6, 64)) + addresses + message
