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


def header_length(packet: Buffer, length: int, *, udp: bool = True) -> int:
    """The length of all headers if the packet of `length` bytes is one that may be merged, with payload; else 0.

    IPv4 without options that is no fragment, or IPv6 without extension headers; TCP with ACK and no SYN, RST, URG or FIN, or
    if `udp` UDP with a checksum. The first LONGEST_HEADERS bytes are enough of it.
    """
    if length < 29:
        return 0
    if packet[0] == 0x45:
        start, protocol = 20, packet[9]
        if packet[6] & 0x3F or packet[7] or (packet[2] << 8 | packet[3]) != length:
            return 0
    elif packet[0] >> 4 == 6 and length > 48:
        start, protocol = 40, packet[6]
        if (packet[4] << 8 | packet[5]) + 40 != length:
            return 0
    else:
        return 0
    if protocol == PROTO_TCP:
        return _tcp_header_length(packet, start, length)
    if protocol != PROTO_UDP or not udp or (packet[start + 4] << 8 | packet[start + 5]) != length - start:
        return 0
    return start + UDP_HEADER if packet[start + 6] or packet[start + 7] else 0


def _tcp_header_length(packet: Buffer, start: int, length: int) -> int:
    if length <= start + 20:
        return 0
    header = start + (packet[start + 12] >> 4 << 2)
    flags = packet[start + 13]
    if header < start + 20 or header >= length or flags & ~MERGEABLE_FLAGS or not flags & 0x10:
        return 0
    return header


def is_udp(header: int, start: int) -> bool:
    """Whether headers of `header` bytes, of which the transport's starts at `start`, are UDP's."""
    return header == start + UDP_HEADER


def equal_bits(header: int, start: int) -> bytes:
    """A mask of headers: what is equal in all packets of a run whose payloads have one length."""
    mask = bytearray(b"\xff" * header)
    if start == 20:
        mask[4:6] = mask[10:12] = b"\0\0"
    if is_udp(header, start):
        mask[start + 6 : start + 8] = b"\0\0"
    else:
        mask[start + 4 : start + 8] = bytes(4)
        mask[start + 13] = 0xFF & ~_VARIES
        mask[start + 16 : start + 18] = b"\0\0"
    return bytes(mask)


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
        self._udp = udp
        self._first = b""
        """The first packet, or only its headers if more follow; empty while there is none."""
        self._parts: list[Buffer] = []
        """A place for the headers, and the payloads; empty while one packet is alone."""
        self._key: int | None = None
        self._header = self._mss = self._start = self._total = self._flags = self._next = 0
        self.merged = 0
        """Packets that were written as part of a larger one."""

    def header_length(self, packet: Buffer, length: int) -> int:
        """The length of all headers if the packet of `length` bytes is one that may be merged; else 0 (see the function)."""
        return header_length(packet, length, udp=self._udp)

    def add(self, packet: bytes) -> None:
        """Take an inner packet that passed all checks of ESP. One that stays alone is delivered as it is."""
        header = header_length(packet, len(packet), udp=self._udp)
        if not header:
            self.flush()
            self._write((NO_OFFLOAD, packet))
            return
        start = 20 if packet[0] == 0x45 else 40
        flags = 0 if header == start + UDP_HEADER else packet[start + 13]
        if not self._first or header != self._header or not self._append(packet, start, flags):
            self.flush()
            self._first, self._header = packet, header
        if flags & ENDS_RUN or (self._parts and len(packet) - header < self._mss):
            self.flush()

    def add_run(self, first: bytes, payloads: list[memoryview], flags: int, sequence: int) -> None:
        """Take a run of at least two packets with equal payload lengths, whose checks and checksums are done.

        `first` holds the headers of the first one, with DF for IPv4, `flags` the TCP flags of all, `sequence` the number of
        the first payload byte; both are 0 for UDP. The payloads must stay valid until `flush`.
        """
        self.flush()
        self._first, self._header, self._parts = first, len(first), [b"", *payloads]
        self._measure(len(payloads[0]), len(payloads), flags, sequence)
        if flags & ENDS_RUN:
            self.flush()

    def _measure(self, mss: int, packets: int, flags: int, sequence: int) -> None:
        """Set what the next packet is compared with."""
        self._start = 20 if self._first[0] == 0x45 else 40
        self._mss, self._flags, self._key = mss, flags, None
        self._total = self._header + mss * packets
        self._next = sequence + mss * packets & 0xFFFFFFFF

    def _append(self, packet: bytes, start: int, flags: int) -> bool:
        """Make a packet part of the run; returns whether it continues the run and is valid."""
        first, header = self._first, self._header
        if (
            packet[start - 8 : start + 4] != first[start - 8 : start + 4]
        ):  # addresses and ports, as far as they are there
            return False
        if not self._parts:
            of_udp = is_udp(header, start)
            sequence = 0 if of_udp else int.from_bytes(first[start + 4 : start + 8], "big")
            self._measure(len(first) - header, 1, 0 if of_udp else first[start + 13], sequence)
        if (
            not self._continues(packet, start, flags)
            or not (self._parts or _checksums_are_valid(first))
            or not _checksums_are_valid(packet)
        ):
            return False
        if not self._parts:
            self._parts = [b"", memoryview(first)[header:]]
        payload = memoryview(packet)[header:]
        self._parts.append(payload)
        self._total += len(payload)
        self._flags |= flags
        self._next = self._next + len(payload) & 0xFFFFFFFF
        return True

    def _continues(self, packet: bytes, start: int, flags: int) -> bool:
        """Whether a packet continues the run by its headers, whose length is that of the run's."""
        header = self._header
        payload = len(packet) - header
        if start != self._start or payload > self._mss or self._total + payload > MAX_PACKET:
            return False
        if is_udp(header, start):
            if len(self._parts) > MAX_SEGMENTS:
                return False
        elif flags & STARTS_RUN or int.from_bytes(packet[start + 4 : start + 8], "big") != self._next:
            return False
        if self._key is None:
            self._key = _key(self._first, start, header)
        return _key(packet, start, header) == self._key and (
            start == 40 or bool(packet[6] & _DF) or self._identification_follows(packet)
        )

    def _identification_follows(self, packet: bytes) -> bool:
        first, packets = int.from_bytes(self._first[4:6], "big"), max(1, len(self._parts) - 1)
        return int.from_bytes(packet[4:6], "big") == (first + packets & 0xFFFF)

    def flush(self) -> None:
        """Write what was collected."""
        first, parts = self._first, self._parts
        if not first:
            return
        self._first, self._parts = b"", []
        if not parts:
            self._write((NO_OFFLOAD, first))
            return
        head = bytearray(first[: self._header])
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
