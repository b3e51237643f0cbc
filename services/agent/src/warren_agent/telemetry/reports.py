"""Reports: the history of the tunnels' states, and reports in parts. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from warren_contracts.base import Document
from warren_contracts.status import TunnelState, TunnelStatus
from warren_contracts.telemetry import HEADERS, MAX_TELEMETRY, Report, TunnelChange

# Bytes of the statuses in one part: 1 kB each as a rule, 4 kB with 64 selectors a side.
PART_SIZE = 100_000
assert PART_SIZE + HEADERS < MAX_TELEMETRY


@dataclass(frozen=True, slots=True)
class Line:
    """What was last reported of one tunnel."""

    state: TunnelState
    since: datetime


class StateHistory:
    """Since when each tunnel is in its state: the driver reports the present state, this remembers the former one."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def previous(self, name: str) -> TunnelState | None:
        """The state that was last reported of a tunnel."""
        line = self._lines.get(name)
        return line.state if line else None

    def record(self, status: TunnelStatus, restarts: int, now: datetime) -> TunnelStatus:
        """The status with `since` and `restarts`, remembered.

        A tunnel that is up when the agent starts is so since its IKE_SA was established.
        """
        line = self._lines.get(status.name)
        if line is None or line.state is not status.state:
            established: datetime | None = getattr(status.link, "ike_established_at", None)
            since = now
            if line is None and status.state is TunnelState.UP and established is not None:
                since = min(established, now)
            line = self._lines[status.name] = Line(status.state, since)
        return status.model_copy(update={"since": line.since, "restarts": restarts})

    def remove(self, name: str, now: datetime) -> TunnelChange:
        """Remove a tunnel; returns the change to report."""
        line = self._lines.pop(name, None)
        gone = TunnelStatus(name=name, state=TunnelState.DOWN, since=now)
        return TunnelChange(at=now, previous=line.state if line else None, status=gone, removed=True)

    def names(self) -> Iterable[str]:
        return self._lines.keys()


DocumentT = TypeVar("DocumentT", bound=Document)


def in_chunks(documents: Sequence[DocumentT], size: int = PART_SIZE) -> list[tuple[DocumentT, ...]]:
    """The documents in order, each chunk of at most `size` bytes of JSON; a document that is larger stands alone."""
    chunks: list[list[DocumentT]] = []
    free = 0
    for document in documents:
        taken = len(document.model_dump_json().encode()) + 1  # and its comma
        if taken > free:
            chunks.append([])
            free = size
        chunks[-1].append(document)
        free -= taken
    return [tuple(chunk) for chunk in chunks]


def in_parts(
    statuses: Sequence[TunnelStatus], now: datetime, policy_sync_errors: int, dpd_failures: int
) -> list[Report]:
    """One report, cut so that each part fits one message; a gateway without tunnels sends one too."""
    chunks = in_chunks(statuses) or [()]
    return [
        Report(
            at=now,
            part=number,
            parts=len(chunks),
            tunnels=tuple(chunk),
            policy_sync_errors=policy_sync_errors,
            dpd_failures=dpd_failures,
        )
        for number, chunk in enumerate(chunks)
    ]
