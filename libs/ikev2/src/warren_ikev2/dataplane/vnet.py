"""The virtio_net_hdr that stands before each packet of a TUN device with IFF_VNET_HDR (virtio 1.2, 5.1.6).

It carries the offloads: a packet of up to 65,535 bytes that stands for many TCP segments or UDP datagrams, and checksums
that are still to be completed. All fields are in the host's byte order, which is little endian on every platform here.
"""

import struct
from typing import NamedTuple

HEADER_SIZE = 10
"""Bytes: without `num_buffers`, the kernel's default."""
NEEDS_CSUM = 1
"""The checksum field holds the sum of the pseudo header; the rest is still to be added."""
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4 = 0, 1, 4, 5
GSO_ECN = 0x80
"""CWR is set, on the first segment only (RFC 3168, 6.1.2)."""
NO_OFFLOAD = bytes(HEADER_SIZE)
_LAYOUT = struct.Struct("<BBHHHH")
build_vnet, parse_vnet = _LAYOUT.pack, _LAYOUT.unpack_from
"""The ten bytes of the fields of a `VnetHeader` in their order, and the fields of the bytes at an offset, for where making one
costs too much."""


class VnetHeader(NamedTuple):
    """The offloads of one packet. Offsets are in bytes from the start of the IP header."""

    flags: int = 0
    gso_type: int = GSO_NONE
    header_length: int = 0
    """Of all headers; only a hint by the specification, and not used here."""
    gso_size: int = 0
    """Payload bytes of each segment."""
    checksum_start: int = 0
    """Where the transport header starts."""
    checksum_offset: int = 0
    """From there to the checksum field."""

    @classmethod
    def parse(cls, buffer: bytes | bytearray | memoryview, offset: int = 0) -> "VnetHeader":
        """Parse ten bytes at `offset`. Raises `struct.error` where they are not there."""
        return cls._make(_LAYOUT.unpack_from(buffer, offset))

    def build(self) -> bytes:
        """The ten bytes."""
        return _LAYOUT.pack(*self)

    @property
    def segment_type(self) -> int:
        """The GSO type without the ECN bit."""
        return self.gso_type & ~GSO_ECN
