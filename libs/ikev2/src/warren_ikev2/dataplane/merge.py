"""Merging of received packets into one write to the TUN device, one packet at a time (the scalar form of GRO).

TCP segments that follow each other, and UDP datagrams of one size and flow, are merged if all that the kernel will need to cut
them apart again is equal: addresses, ports, acknowledgement, window, options, DSCP and ECN, TTL, and for IPv4 without DF
consecutive identifications. Merging replaces the checksums, so both are verified before: a packet that was corrupt before it
entered the tunnel is delivered as it is, and its receiver discards it. So is a UDP datagram without a checksum.

This serves what the vectorised form (`runs`) does not, and stands without numpy.
"""

from collections.abc import Callable, Sequence
from functools import cache

from warren_ikev2.dataplane.checksum import (
    MODULUS,
    PROTO_TCP,
    PROTO_UDP,
    ipv4_header_is_valid,
    pseudo_header,
    transport_is_valid,
    write_ipv4_checksum,
)
from warren_ikev2.dataplane.trains import MAX_SEGMENTS
from warren_ikev2.dataplane.vnet import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    NO_OFFLOAD,
    build_vnet,
)

Buffer = bytes | bytearray | memoryview
Write = Callable[[Sequence[Buffer]], None]
"""Takes one packet of the TUN device in parts; the first one starts with the vnet header."""

MAX_PACKET = 65535
MERGEABLE_FLAGS = 0xD8
"""CWR, ECE, ACK and PSH: a segment with any other bit begins no run."""
ENDS_RUN, STARTS_RUN = 0x09, 0x80
"""PSH or FIN: the last segment of a run. CWR: the first."""
LONGEST_HEADERS = 100
"""Bytes of an IPv6 header and the longest TCP header."""
_DF = 0x40
_VARIES = ENDS_RUN | STARTS_RUN
UDP_HEADER = 8
"""Bytes. A TCP header has at least 20, so the lengths of all headers and of those before the transport's show which it is."""


def tcp_header_length(packet: Buffer, length: int) -> int:
    """The length of all headers if the packet of `length` bytes is one that may be merged, with payload; else 0.

    IPv4 without options that is no fragment, or IPv6 without extension headers; ACK and no SYN, RST, URG or FIN. The first
    LONGEST_HEADERS bytes are enough of it.
    """
    if length < 41:
        return 0
    if packet[0] == 0x45:
        if packet[9] != PROTO_TCP or packet[6] & 0x3F or packet[7] or (packet[2] << 8 | packet[3]) != length:
            return 0
        start = 20
    elif packet[0] >> 4 == 6 and packet[6] == PROTO_TCP and length > 60:
        if (packet[4] << 8 | packet[5]) + 40 != length:
            return 0
        start = 40
    else:
        return 0
    header = start + (packet[start + 12] >> 4 << 2)
    if (
        header < start + 20
        or header >= length
        or packet[start + 13] & ~MERGEABLE_FLAGS
        or not packet[start + 13] & 0x10
    ):
        return 0
    return header


def udp_header_length(packet: Buffer, length: int) -> int:
    """As `tcp_header_length`, for a UDP datagram with a checksum."""
    if length < 29:
        return 0
    if packet[0] == 0x45:
        if packet[9] != PROTO_UDP or packet[6] & 0x3F or packet[7] or (packet[2] << 8 | packet[3]) != length:
            return 0
        start = 20
    elif packet[0] >> 4 == 6 and packet[6] == PROTO_UDP and length > 48:
        if (packet[4] << 8 | packet[5]) + 40 != length:
            return 0
        start = 40
    else:
        return 0
    matches = (packet[start + 4] << 8 | packet[start + 5]) == length - start and (
        packet[start + 6] or packet[start + 7]
    )
    return start + UDP_HEADER if matches else 0


def is_udp(header: int, start: int) -> bool:
    """Whether headers of `header` bytes, of which the transport's starts at `start`, are UDP's."""
    return header == start + UDP_HEADER


def build_merged_header(header: bytearray, start: int, total: int, flags: int, mss: int) -> bytes:
    """The vnet header and the headers of a merged packet of `total` bytes; `header` is the first one's and is changed.

    The transport's header is at `start`. Its checksum field holds the pseudo header's sum only, as the kernel expects it of
    NEEDS_CSUM. `flags` are TCP's.
    """
    v4 = header[0] >> 4 == 4
    if v4:
        header[2:4] = total.to_bytes(2, "big")
        write_ipv4_checksum(header, 20)
    else:
        header[4:6] = (total - 40).to_bytes(2, "big")
    if is_udp(len(header), start):
        header[start + 4 : start + 6] = (total - start).to_bytes(2, "big")
        kind, offset, protocol = GSO_UDP_L4, 6, PROTO_UDP
    else:
        header[start + 13] = flags
        kind, offset, protocol = (GSO_TCPV4 if v4 else GSO_TCPV6), 16, PROTO_TCP
        kind |= GSO_ECN if flags & STARTS_RUN else 0
    pseudo = pseudo_header(header, protocol, total - start) % MODULUS
    header[start + offset : start + offset + 2] = pseudo.to_bytes(2, "big")
    return build_vnet(NEEDS_CSUM, kind, len(header), mss, start, offset) + header


class Merger:
    """Collects one run of packets. `add` packets in order, then `flush`. `udp`: the kernel takes UDP datagrams merged."""

    def __init__(self, write: Write, *, udp: bool = True) -> None:
        self._write = write
        self.takes_udp = udp
        self._parts: list[Buffer] = []
        self._first = b""
        self._key: int | None = None
        self._header = self._mss = self._start = self._total = self._flags = self._next = 0
        self.merged = 0
        """Packets that were written as part of a larger one."""

    def header_length(self, packet: Buffer, length: int) -> int:
        """The length of all headers if the packet of `length` bytes is one that may be merged, with payload; else 0.

        The first LONGEST_HEADERS bytes are enough of it.
        """
        return tcp_header_length(packet, length) or (self.takes_udp and udp_header_length(packet, length)) or 0

    def add(self, packet: bytes) -> None:
        """Take an inner packet that passed all checks of ESP."""
        header = self.header_length(packet, len(packet))
        if not header or not _checksums_are_valid(packet):
            self.flush()
            self._write((NO_OFFLOAD, packet))
            return
        start = 20 if packet[0] == 0x45 else 40
        if is_udp(header, start):
            flags = sequence = 0
        else:
            flags, sequence = packet[start + 13], int.from_bytes(packet[start + 4 : start + 8], "big")
        payload = memoryview(packet)[header:]
        if self._parts and self._continues(packet, header, start, sequence):
            self._parts.append(payload)
            self._total += len(payload)
            self._flags |= flags
            self._next = self._next + len(payload) & 0xFFFFFFFF
        else:
            self._begin(packet, header, [b"", payload], flags, sequence)
        if flags & ENDS_RUN or len(payload) < self._mss:
            self.flush()

    def add_run(self, first: bytes, payloads: list[memoryview], flags: int, sequence: int) -> None:
        """Take a run of at least two packets with equal payload lengths, whose checks and checksums are done.

        `first` holds the headers of the first one, with DF for IPv4, `flags` the TCP flags of all, `sequence` the number of
        the first payload byte; both are 0 for UDP. The payloads must stay valid until `flush`.
        """
        self._begin(first, len(first), [b"", *payloads], flags, sequence)
        if flags & ENDS_RUN:
            self.flush()

    def _begin(self, first: bytes, header: int, parts: list[Buffer], flags: int, sequence: int) -> None:
        self.flush()
        self._first, self._header, self._parts, self._flags, self._key = first, header, parts, flags, None
        self._start = 20 if first[0] == 0x45 else 40
        self._mss = len(parts[1])
        payload = self._mss * (len(parts) - 1)
        self._total = header + payload
        self._next = sequence + payload & 0xFFFFFFFF

    def _continues(self, packet: bytes, header: int, start: int, sequence: int) -> bool:
        """Whether a packet continues the run."""
        payload = len(packet) - header
        if header != self._header or payload > self._mss or self._total + payload > MAX_PACKET:
            return False
        if is_udp(header, start):
            if len(self._parts) > MAX_SEGMENTS:
                return False
        elif sequence != self._next or packet[start + 13] & STARTS_RUN:
            return False
        if self._key is None:
            self._key = _key(self._first, self._start, header)
        return _key(packet, start, header) == self._key and (
            start == 40 or bool(packet[6] & _DF) or self._identification_follows(packet)
        )

    def _identification_follows(self, packet: bytes) -> bool:
        first = int.from_bytes(self._first[4:6], "big")
        return int.from_bytes(packet[4:6], "big") == (first + len(self._parts) - 1 & 0xFFFF)

    def flush(self) -> None:
        """Write what was collected."""
        parts = self._parts
        if not parts:
            return
        self._parts = []
        if len(parts) == 2:
            self._write((NO_OFFLOAD, self._first))
            return
        head = bytearray(self._first[: self._header])
        parts[0] = build_merged_header(head, self._start, self._total, self._flags, self._mss)
        self.merged += len(parts) - 1
        self._write(parts)


@cache
def _mask(start: int, header: int) -> int:
    """What must be equal in all packets of a run: all but lengths, identification, checksums, numbers and flags that vary."""
    mask = bytearray(b"\xff" * header)
    if start == 20:
        mask[2:6] = bytes(4)
        mask[10:12] = bytes(2)
    else:
        mask[4:6] = bytes(2)
    mask[start + 4 : start + 8] = bytes(4)  # TCP's sequence number, or UDP's length and checksum
    if not is_udp(header, start):
        mask[start + 13] = ~_VARIES & 0xFF
        mask[start + 16 : start + 18] = bytes(2)
    return int.from_bytes(mask, "big")


def _key(packet: bytes, start: int, header: int) -> int:
    return int.from_bytes(packet[:header], "big") & _mask(start, header)


def _checksums_are_valid(packet: bytes) -> bool:
    if packet[0] == 0x45:
        return ipv4_header_is_valid(packet) and transport_is_valid(packet, 20, packet[9])
    return transport_is_valid(packet, 40, packet[6])
