"""DSCP and ECN across the tunnel (RFC 6040, which replaces that part of RFC 4301, 5.1.2)."""

import enum

from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.inner import tos_of, with_tos

NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3
_DSCP = 0xFC
_DROP = -1


class DscpMode(enum.StrEnum):
    """Which way the six DSCP bits are copied (RFC 4301, 5.1.2.1; strongSwan's `copy_dscp`)."""

    OUT = "out"
    """From the inner to the outer header only: the default, since outer bits are not authenticated."""
    NO = "no"
    """Never: the outer header reveals nothing about the inner packet."""


# RFC 6040, figure 4: the row is the inner codepoint that arrived, the column the outer one.
_DECAPSULATE = {
    #         Not-ECT  ECT(1)   ECT(0)   CE
    NOT_ECT: (NOT_ECT, NOT_ECT, NOT_ECT, _DROP),
    ECT_1: (ECT_1, ECT_1, ECT_1, CE),
    ECT_0: (ECT_0, ECT_1, ECT_0, CE),
    CE: (CE, CE, CE, CE),
}


def outer_tos(inner: bytes, dscp: DscpMode = DscpMode.OUT) -> int:
    """The outer header's byte for a packet that enters the tunnel: normal mode copies ECN as it is (RFC 6040, 4.1)."""
    tos = tos_of(inner)
    return tos if dscp is DscpMode.OUT else tos & ~_DSCP


def decapsulate(inner: bytes, outer: int) -> bytes:
    """The inner packet with the congestion that the outer byte reports (RFC 6040, 4.2).

    Raises `PacketDroppedError(ECN)` for congestion on a packet whose transport does not understand it.
    """
    tos = tos_of(inner)
    codepoint = _DECAPSULATE[tos & 3][outer & 3]
    if codepoint == _DROP:
        raise PacketDroppedError(DropReason.ECN)
    return inner if codepoint == tos & 3 else with_tos(inner, tos & _DSCP | codepoint)


def is_unchanged(inner_tos: int, outer_tos: int) -> bool:
    """Whether `decapsulate` leaves a packet with this inner byte as it is."""
    codepoint = inner_tos & 3
    return _DECAPSULATE[codepoint][outer_tos & 3] == codepoint
