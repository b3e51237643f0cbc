"""The parts of a report that have arrived, by peer."""

from dataclasses import dataclass, field
from datetime import datetime

from warren_contracts.telemetry import Report


@dataclass(slots=True)
class _Parts:
    at: datetime
    parts: int
    seen: dict[int, frozenset[str]] = field(default_factory=dict)  # names of tunnels, by part


class TooManyTunnelsError(Exception):
    """The parts of a report name more tunnels than a peer may have."""


class ReportParts:
    """The reports that are not complete yet, one of a peer: parts of another one replace it."""

    def __init__(self) -> None:
        self._of_peer: dict[str, _Parts] = {}

    def __len__(self) -> int:
        return len(self._of_peer)

    def add(self, peer: str, report: Report, max_tunnels: int) -> frozenset[str] | None:
        """The names of the whole report once its last missing part has arrived; None before. Raises TooManyTunnelsError."""
        names = frozenset(status.name for status in report.tunnels)
        if report.parts == 1:
            self.forget(peer)
            return names
        parts = self._of_peer.get(peer)
        if parts is None or (parts.at, parts.parts) != (report.at, report.parts):
            parts = self._of_peer[peer] = _Parts(report.at, report.parts)
        parts.seen[report.part] = names
        if sum(map(len, parts.seen.values())) > max_tunnels:
            self.forget(peer)
            raise TooManyTunnelsError
        if len(parts.seen) < parts.parts:
            return None
        self.forget(peer)
        return frozenset().union(*parts.seen.values())

    def forget(self, peer: str) -> None:
        """Drop what has arrived of a report."""
        self._of_peer.pop(peer, None)
