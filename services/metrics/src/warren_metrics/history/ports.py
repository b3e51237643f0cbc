"""The store of the history. Every method raises PostgresUnavailableError while PostgreSQL is unavailable."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from warren_metrics.history.rows import HistoryRows, TunnelRow

Position = tuple[datetime, int]  # of a row: time and sequence


@dataclass(frozen=True, slots=True)
class HistorySpan:
    """Rows of one tunnel and of its ends' peers, and the newest row of each end before them."""

    rows: HistoryRows
    before: dict[str, TunnelRow]
    is_complete: bool  # no older row of the span was left out


class HistoryStore(Protocol):
    """Writes rows and reads them."""

    async def position(self) -> int:
        """The sequence in EVENT up to which rows are stored."""

    async def first_at(self) -> datetime | None:
        """When the history began; None: nothing was stored yet."""

    async def append(self, rows: HistoryRows, position: int, keep_from: datetime) -> None:
        """Store the rows since `keep_from`, and the position, in one transaction; rows that are stored already stay."""

    async def prune(self, keep_from: datetime) -> int:
        """Remove the days before `keep_from`; returns how many partitions. What each end was at their end is kept."""

    async def drop_repeats(self, since: datetime, until: datetime) -> None:
        """Remove the rows between two moments that repeat which revision their peer had applied, or could not."""

    async def page(self, tunnel: str, before: Position, limit: int) -> HistorySpan:
        """The newest `limit` rows of each kind before a position, without repeated revisions."""

    async def span(self, tunnel: str, since: datetime, limit: int) -> HistorySpan:
        """The rows since a moment, of too many the newest."""

    async def fleet_at(self, at: datetime) -> HistoryRows:
        """The newest row of every end and of every peer up to an instant."""


def peers_of(tunnel: str, ends: Collection[str], rows: Collection[TunnelRow]) -> list[str]:
    """The peers of a tunnel: those that report it, those that they name, and those in a derived name."""
    derived = tunnel.split("+") if "+" in tunnel else []
    return sorted({*ends, *derived, *(row.other for row in rows if row.other is not None)})
