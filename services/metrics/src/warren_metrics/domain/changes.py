"""What a message changes: events to publish, rows to write, measurements, refusals."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from warren_contracts.events import PolicyApplied, ReportingChanged, TunnelChanged
from warren_contracts.status import ReasonCode

Event = TunnelChanged | PolicyApplied | ReportingChanged
TunnelKey = tuple[str, str]  # peer, tunnel


@dataclass(slots=True)
class Changes:
    """The result of a message: events to publish, rows to write, and refusals."""

    at: datetime | None = None  # of what the message reports of tunnels, by the clock of the bus
    events: list[Event] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)
    tunnels: set[TunnelKey] = field(default_factory=set)
    counters: set[TunnelKey] = field(default_factory=set)  # tunnels in the same state, with newer counters and times
    rejected: list[str] = field(default_factory=list)  # reasons
    suppressed: int = 0  # events of a peer beyond its rate
    applied_ms: list[float] = field(default_factory=list)
    failed: int = 0  # applies that failed
    broken: list[ReasonCode] = field(default_factory=list)  # tunnels that failed without an attempt
    handshakes: list[float] = field(default_factory=list)  # s
    rekeyings: list[float] = field(default_factory=list)  # s
    converged: list[tuple[str, int]] = field(
        default_factory=list
    )  # peers and the newer revisions that they have applied


def merged(parts: Iterable[Changes]) -> Changes:
    """The changes of a batch, in order."""
    total = Changes()
    for part in parts:
        total.events += part.events
        total.peers |= part.peers
        total.tunnels |= part.tunnels
        total.counters |= part.counters
        total.rejected += part.rejected
        total.suppressed += part.suppressed
        total.applied_ms += part.applied_ms
        total.failed += part.failed
        total.broken += part.broken
        total.handshakes += part.handshakes
        total.rekeyings += part.rekeyings
        total.converged += part.converged
    return total
