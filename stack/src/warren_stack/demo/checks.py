"""Judgements over what was captured and reported. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from warren_lab.capture import ClearPacket, EspFlow
from warren_lab.ping import Echo


@dataclass(frozen=True)
class Encrypted:
    """Whether the traffic of one WAN link was ESP under the reported SPIs, and nothing inner was seen in clear."""

    held: bool
    detail: str


def judge_capture(
    flows: Sequence[EspFlow], clear: Sequence[ClearPacket], dropped: int, reported_spis: frozenset[int]
) -> Encrypted:
    """Holds only if something was seen, both directions, every SPI reported, every reported SPI seen, nothing in clear."""
    seen = frozenset(flow.spi for flow in flows)
    faults = []
    if not seen:
        faults.append("no ESP was seen")
    if seen - reported_spis:
        faults.append(f"SPIs that nobody reported: {_spis(seen - reported_spis)}")
    if reported_spis - seen:
        faults.append(f"reported SPIs that were not seen: {_spis(reported_spis - seen)}")
    if clear:
        faults.append(f"{len(clear)} packets in clear, the first {clear[0].source} to {clear[0].destination}")
    if dropped:
        faults.append(f"the capture lost {dropped} frames")
    packets = sum(flow.packets for flow in flows)
    return Encrypted(not faults, "; ".join(faults) or f"{packets} ESP packets, SPIs {_spis(seen)}, none in clear")


def first_reply_under(spi: int, flows: Sequence[EspFlow], echoes: Sequence[Echo]) -> float | None:
    """When the first echo reply arrived that can have come under this inbound SPI (Unix time); None if none did.

    The capture says when the first packet of the SPI came in on the WAN link; the first reply at or after it is its content.
    """
    began = min((flow.first_time for flow in flows if flow.spi == spi), default=None)
    if began is None:
        return None
    return min((echo.received for echo in echoes if echo.received is not None and echo.received >= began), default=None)


def _spis(values: frozenset[int]) -> str:
    return ", ".join(f"{value:08x}" for value in sorted(values))
