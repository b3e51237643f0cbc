"""The reasons to drop a packet. Each is a counter; none causes a message to the peer."""

import enum

from warren_ikev2.errors import IkeError


class DropReason(enum.StrEnum):
    """The auditable events of RFC 4303 (2.1, 3.4.3, 3.4.4) and RFC 4301 (5.2), and other reasons of a tunnel endpoint."""

    MALFORMED = "malformed"
    """Too short, misaligned, or an inner header that contradicts itself."""
    NO_SA = "no_sa"
    """Inbound: an unknown SPI. Outbound: no CHILD_SA covers the packet."""
    REPLAY = "replay"
    """The sequence number was seen before or lies left of the window."""
    INTEGRITY = "integrity"
    """The integrity check value is wrong."""
    SELECTOR = "selector"
    """Authentic, but the inner packet does not match the selectors of the SA."""
    DUMMY = "dummy"
    """Next header 59: traffic flow confidentiality only (RFC 4303, 2.6)."""
    ECN = "ecn"
    """Congestion was signalled on a packet whose inner header cannot carry the signal (RFC 6040, 4.2)."""
    EXHAUSTED = "exhausted"
    """All sequence numbers of the SA are used; it must be rekeyed (RFC 4303, 3.3.3)."""
    TOO_BIG = "too_big"
    """Longer than the tunnel's MTU, and must not be fragmented."""
    RATE = "rate"
    """Beyond the session's rate limit."""


class PacketDroppedError(IkeError):
    """The packet was dropped; `reason` says why. Nothing is to be sent to the peer."""

    def __init__(self, reason: DropReason) -> None:
        super().__init__(reason.value)
        self.reason = reason
