"""A probe of an IKE endpoint that leaves no state there. Pure.

A message of a higher major version is dropped, and answered by an unauthenticated notify INVALID_MAJOR_VERSION (RFC 7296, 2.5).
charon answers it before it looks for a connection, from every address and without an IKE_SA. The answer repeats the initiator's
SPI, so only somebody on the path could forge one, who could also drop the packets of a tunnel.
"""

import struct

_HEADER = struct.Struct(
    ">8s8sBBBBII"
)  # SPIs, next payload, version, exchange, flags, message id, length (RFC 7296, 3.1)
_VERSION_3 = 0x30
_IKE_SA_INIT = 34
_INITIATOR = 0x08
_RESPONSE = 0x20
SPI_SIZE = 8
IKE_PORT = 500
# Messages at other ports than 500 start with four zeros, to distinguish them from ESP (RFC 3948, 2.2; RFC 7296, 2.23).
NON_ESP_MARKER = bytes(4)


def build_probe(spi: bytes, port: int) -> bytes:
    """The probe of an endpoint at a UDP port; `spi` is random, 8 bytes."""
    message = _HEADER.pack(spi, bytes(SPI_SIZE), 0, _VERSION_3, _IKE_SA_INIT, _INITIATOR, 0, _HEADER.size)
    return message if port == IKE_PORT else NON_ESP_MARKER + message


def parse_answer(datagram: bytes) -> bytes | None:
    """The SPI of the probe that a datagram answers; None if it is no IKE response."""
    message = datagram[len(NON_ESP_MARKER) :] if datagram.startswith(NON_ESP_MARKER) else datagram
    if len(message) < _HEADER.size:
        return None
    spi, _, _, version, _, flags, _, length = _HEADER.unpack_from(message)
    is_response = bool(flags & _RESPONSE) or not flags & _INITIATOR
    return bytes(spi) if is_response and length == len(message) and version != _VERSION_3 else None
