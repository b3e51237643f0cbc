"""Merging of received packets into one write to the TUN device, one packet at a time (the scalar form of GRO).

TCP segments that follow each other are merged if all that the kernel will need to cut them apart again is equal: addresses,
ports, acknowledgement, window, options, DSCP and ECN, TTL, and for IPv4 without DF consecutive identifications. Merging
replaces the checksums, so both are verified before: a segment that was corrupt before it entered the tunnel is
delivered as it is, and its receiver discards it.

This serves what the vectorised form (`runs`) does not, and stands without numpy.
"""

from collections.abc import Callable, Sequence
from functools import cache

from warren_ikev2.dataplane.checksum import (
    MODULUS,
    PROTO_TCP,
    ipv4_header_is_valid,
    pseudo_header,
    transport_is_valid,
    write_ipv4_checksum,
)
from warren_ikev2.dataplane.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, NO_OFFLOAD, build_vnet

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


def build_merged_header(header: bytearray, tcp: int, total: int, flags: int, mss: int) -> bytes:
    """The vnet header and the headers of a merged packet of `total` bytes; `header` is the first segment's and is changed.

    The TCP checksum field holds the pseudo header's sum only, as the kernel expects it of NEEDS_CSUM.
    """
    if header[0] >> 4 == 4:
        header[2:4] = total.to_bytes(2, "big")
        write_ipv4_checksum(header, 20)
        kind = GSO_TCPV4
    else:
        header[4:6] = (total - 40).to_bytes(2, "big")
        kind = GSO_TCPV6
    header[tcp + 13] = flags
    pseudo = pseudo_header(header, PROTO_TCP, total - tcp) % MODULUS
    header[tcp + 16 : tcp + 18] = pseudo.to_bytes(2, "big")
    kind |= GSO_ECN if flags & STARTS_RUN else 0
    return build_vnet(NEEDS_CSUM, kind, len(header), mss, tcp, 16) + header


class Merger:
    """Collects one run of segments. `add` packets in order, then `flush`."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._parts: list[Buffer] = []
        self._first = b""
        self._key: int | None = None
        self._header = self._mss = self._tcp = self._total = self._flags = self._next = 0
        self.merged = 0
        """Packets that were written as part of a larger one."""

    def add(self, packet: bytes) -> None:
        """Take an inner packet that passed all checks of ESP."""
        header = tcp_header_length(packet, len(packet))
        if not header or not _checksums_are_valid(packet):
            self.flush()
            self._write((NO_OFFLOAD, packet))
            return
        tcp = 20 if packet[0] == 0x45 else 40
        flags, payload = packet[tcp + 13], memoryview(packet)[header:]
        if self._parts and self._continues(packet, header, tcp):
            self._parts.append(payload)
            self._total += len(payload)
            self._flags |= flags
            self._next = self._next + len(payload) & 0xFFFFFFFF
        else:
            sequence = int.from_bytes(packet[tcp + 4 : tcp + 8], "big")
            self._begin(packet, header, [b"", payload], flags, sequence)
        if flags & ENDS_RUN or len(payload) < self._mss:
            self.flush()

    def add_run(self, first: bytes, payloads: list[memoryview], flags: int, sequence: int) -> None:
        """Take a run of at least two segments with equal payload lengths, whose checks and checksums are done.

        `first` holds the headers of the first one, with DF for IPv4, `flags` the TCP flags of all, `sequence` the number of
        the first payload byte. The payloads must stay valid until `flush`.
        """
        self._begin(first, len(first), [b"", *payloads], flags, sequence)
        if flags & ENDS_RUN:
            self.flush()

    def _begin(self, first: bytes, header: int, parts: list[Buffer], flags: int, sequence: int) -> None:
        self.flush()
        self._first, self._header, self._parts, self._flags, self._key = first, header, parts, flags, None
        self._tcp = 20 if first[0] == 0x45 else 40
        self._mss = len(parts[1])
        payload = self._mss * (len(parts) - 1)
        self._total = header + payload
        self._next = sequence + payload & 0xFFFFFFFF

    def _continues(self, packet: bytes, header: int, tcp: int) -> bool:
        """Whether a packet continues the run."""
        payload = len(packet) - header
        if (
            int.from_bytes(packet[tcp + 4 : tcp + 8], "big") != self._next
            or header != self._header
            or payload > self._mss
            or packet[tcp + 13] & STARTS_RUN
            or self._total + payload > MAX_PACKET
        ):
            return False
        if self._key is None:
            self._key = _key(self._first, self._tcp, header)
        return _key(packet, tcp, header) == self._key and (
            tcp == 40 or bool(packet[6] & _DF) or self._identification_follows(packet)
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
        parts[0] = build_merged_header(head, self._tcp, self._total, self._flags, self._mss)
        self.merged += len(parts) - 1
        self._write(parts)


@cache
def _mask(tcp: int, header: int) -> int:
    """What must be equal in all segments of a run: all but lengths, identification, checksums, numbers and flags that vary."""
    mask = bytearray(b"\xff" * header)
    if tcp == 20:
        mask[2:6] = bytes(4)
        mask[10:12] = bytes(2)
    else:
        mask[4:6] = bytes(2)
    mask[tcp + 4 : tcp + 8] = bytes(4)
    mask[tcp + 13] = ~_VARIES & 0xFF
    mask[tcp + 16 : tcp + 18] = bytes(2)
    return int.from_bytes(mask, "big")


def _key(packet: bytes, tcp: int, header: int) -> int:
    return int.from_bytes(packet[:header], "big") & _mask(tcp, header)


def _checksums_are_valid(packet: bytes) -> bool:
    if packet[0] == 0x45:
        return ipv4_header_is_valid(packet) and transport_is_valid(packet, 20, PROTO_TCP)
    return transport_is_valid(packet, 40, PROTO_TCP)
