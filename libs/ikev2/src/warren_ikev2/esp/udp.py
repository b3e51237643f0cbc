"""UDP encapsulation (RFC 3948; RFC 7296, 2.23): IKE, ESP and keepalives share port 4500.

A datagram that starts with four zero bytes carries IKE behind them, a single 0xFF byte is a keepalive, anything else
starts with an SPI and is ESP.
"""

import enum

from warren_ikev2.constants import KEEPALIVE, NON_ESP_MARKER

MIN_ESP = 8 + 8 + 4 + 16
"""Bytes: header, the shortest IV, the shortest plaintext and the shortest ICV of any cipher here."""


class DatagramKind(enum.Enum):
    """What a datagram on the NAT traversal port carries."""

    IKE = enum.auto()
    ESP = enum.auto()
    KEEPALIVE = enum.auto()
    JUNK = enum.auto()


def classify(datagram: bytes) -> DatagramKind:
    """Classify by the first bytes (RFC 3948, 2). A datagram too short for any of the three is junk."""
    if datagram[:4] == NON_ESP_MARKER:
        return DatagramKind.IKE
    if len(datagram) >= MIN_ESP:
        return DatagramKind.ESP
    return DatagramKind.KEEPALIVE if datagram == KEEPALIVE else DatagramKind.JUNK
