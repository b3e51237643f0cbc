"""The IKE header (RFC 7296, 3.1)."""

import struct
from dataclasses import dataclass

from warren_ikev2.constants import IKE_VERSION, HeaderFlag
from warren_ikev2.errors import MalformedMessageError

HEADER_SIZE = 28
_HEADER = struct.Struct("!8s8sBBBBII")


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed header of every message."""

    spi_i: bytes
    spi_r: bytes
    exchange: int
    """An ExchangeType, or an unknown number."""
    flags: int
    message_id: int
    next_payload: int = 0
    version: int = IKE_VERSION
    length: int = 0

    @property
    def is_response(self) -> bool:
        """Whether it answers a request."""
        return bool(self.flags & HeaderFlag.RESPONSE)

    @property
    def from_initiator(self) -> bool:
        """Whether the IKE_SA's original initiator sent it."""
        return bool(self.flags & HeaderFlag.INITIATOR)


def parse_header(data: bytes) -> Header:
    """MalformedMessageError: shorter than a header, or its length field disagrees with the data."""
    if len(data) < HEADER_SIZE:
        raise MalformedMessageError("a message shorter than its header")
    spi_i, spi_r, next_payload, version, exchange, flags, message_id, length = _HEADER.unpack_from(data)
    if length != len(data):
        raise MalformedMessageError(f"the length field is {length}, the datagram has {len(data)} bytes")
    return Header(spi_i, spi_r, exchange, flags, message_id, next_payload, version, length)


def build_header(header: Header, next_payload: int, length: int) -> bytes:
    """The header's bytes with a first payload and a total length."""
    return _HEADER.pack(
        header.spi_i,
        header.spi_r,
        next_payload,
        header.version,
        header.exchange,
        header.flags,
        header.message_id,
        length,
    )
