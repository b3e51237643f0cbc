"""ICMP and ICMPv6 echoes by unprivileged sockets (icmp(7): `net.ipv4.ping_group_range` must include the process's group).

The kernel fills in the identifier and the checksum, and gives a socket only the answers to its own echoes. Messages begin with the
ICMP header: type, code, checksum, identifier, sequence number (RFC 792; RFC 4443, 4.1).
"""

import socket
import struct

from warren_contracts.addresses import IPAddress

HEADERS = {4: 28, 6: 48}  # bytes of IP and ICMP
TTL = 16  # an echo that leaves its tunnel does not travel far
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_HEADER = struct.Struct("!BBHHH")
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3  # ip(7), ipv6(7): set DF, ignore the known path MTU


def open_echo_socket(version: int) -> socket.socket:
    """A socket for echoes of one IP version. OSError if this user may not send any."""
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    return socket.socket(family, socket.SOCK_DGRAM, protocol)


def prepare_echo_socket(opened: socket.socket, version: int) -> None:
    """Make it non-blocking, with the TTL of echoes, and let nothing on the way fragment them."""
    opened.setblocking(False)
    if version == 4:
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
        opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    else:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
        opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)


def build_echo(target: IPAddress, sequence: int, size: int) -> bytes:
    """An echo request of `size` bytes as an IP packet, at least its headers; `sequence` has 16 bits."""
    filling = bytes(max(0, size - HEADERS[target.version]))
    return _HEADER.pack(_REQUEST[target.version], 0, 0, 0, sequence) + filling


def parse_echo_reply(version: int, message: bytes) -> int | None:
    """The sequence number that a message answers; None if it is not an echo reply."""
    if len(message) < _HEADER.size:
        return None
    kind, _, _, _, sequence = _HEADER.unpack_from(message)
    return int(sequence) if kind == _REPLY[version] else None
