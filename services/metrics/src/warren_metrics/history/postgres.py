"""The history on PostgreSQL, in partitions of a day."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from warren_contracts.peers import PresenceState
from warren_contracts.status import ReasonCode, TunnelState
from warren_metrics.history.ports import HistorySpan, Position, peers_of
from warren_metrics.history.rows import AppliedRow, HistoryRows, PeerRow, RowPlace, TunnelRow
from warren_store import Connection, Store, load_queries

if TYPE_CHECKING:
    from asyncpg import Record

# By table, the query that saves the newest rows of a partition before it is removed.
_TABLES = {"tunnel_transition": "keep_tunnels", "peer_transition": "keep_peers", "applied_revision": "keep_applied"}
DAY = timedelta(days=1)

AnyRow = TunnelRow | PeerRow | AppliedRow


class PostgresHistory:
    """`HistoryStore` on PostgreSQL. One instance writes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sql = load_queries("warren_metrics", "history.sql")
        self._days: set[date] = set()  # that have partitions

    async def position(self) -> int:
        async with self._store.connection() as connection:
            return int(await connection.fetchval(self._sql["position"]))

    async def first_at(self) -> datetime | None:
        async with self._store.connection() as connection:
            row = await connection.fetchrow(self._sql["position"])
        return None if row is None else row["first_at"]

    async def append(self, rows: HistoryRows, position: int, keep_from: datetime) -> None:
        tunnels = [row for row in rows.tunnels if row.place.at >= keep_from]
        peers = [row for row in rows.peers if row.place.at >= keep_from]
        applied = [row for row in rows.applied if row.place.at >= keep_from]
        times = [row.place.at for kind in _kinds(tunnels, peers, applied) for row in kind]
        first, days = min(times, default=None), {at.astimezone(UTC).date() for at in times}
        async with self._store.transaction() as connection:
            await self._make_partitions(connection, days)
            if tunnels:
                await connection.execute(self._sql["put_tunnels"], *_columns(map(_tunnel_values, tunnels)))
                await connection.execute(
                    self._sql["put_ends"], [row.tunnel for row in tunnels], [row.peer for row in tunnels]
                )
            if peers:
                await connection.execute(self._sql["put_peers"], *_columns(map(_peer_values, peers)))
            if applied:
                await connection.execute(self._sql["put_applied"], *_columns(map(_applied_values, applied)))
            if peers or applied:
                await connection.execute(
                    self._sql["put_known"], [row.peer for kind in _kinds(peers, applied) for row in kind]
                )
            await connection.execute(self._sql["move_position"], position, first)
        self._days |= days

    async def prune(self, keep_from: datetime) -> int:
        removed = 0
        async with self._store.transaction() as connection:
            for table, keep in _TABLES.items():
                for row in await connection.fetch(self._sql["partitions"], table):
                    if row["day"] >= f"{keep_from.astimezone(UTC):%Y%m%d}":
                        continue
                    partition = f"{table}_{row['day']}"
                    await connection.execute(self._sql[keep].format(partition=partition))
                    await connection.execute(f"DROP TABLE {partition}")
                    removed += 1
            if removed:
                await connection.execute(self._sql["forget_ends"])
                await connection.execute(self._sql["forget_before"])
        self._days.clear()
        return removed

    async def drop_repeats(self, since: datetime, until: datetime) -> None:
        async with self._store.connection() as connection:
            await connection.execute(self._sql["drop_repeats"], since, until)

    async def page(self, tunnel: str, before: Position, limit: int) -> HistorySpan:
        async with self._store.connection() as connection, connection.transaction(isolation="repeatable_read"):
            found = [_tunnel(row) for row in await connection.fetch(self._sql["tunnel_page"], tunnel, *before, limit)]
            ends = [row["peer"] for row in await connection.fetch(self._sql["tunnel_ends"], tunnel)]
            peers = peers_of(tunnel, ends, found)
            of_peers = await connection.fetch(self._sql["peer_page"], peers, *before, limit)
            applied = await connection.fetch(self._sql["applied_page"], peers, *before, limit)
            oldest = _oldest(found, before)
            last = [_tunnel(row) for row in await connection.fetch(self._sql["tunnel_last"], tunnel, *oldest)]
        rows = HistoryRows(found, [_peer(row) for row in of_peers], [_applied(row) for row in applied])
        return HistorySpan(rows, {row.peer: row for row in last}, len(found) < limit)

    async def span(self, tunnel: str, since: datetime, limit: int) -> HistorySpan:
        async with self._store.connection() as connection, connection.transaction(isolation="repeatable_read"):
            found = [_tunnel(row) for row in await connection.fetch(self._sql["tunnel_since"], tunnel, since, limit)]
            ends = [row["peer"] for row in await connection.fetch(self._sql["tunnel_ends"], tunnel)]
            oldest = _oldest(found, (since, 0))
            last = [_tunnel(row) for row in await connection.fetch(self._sql["tunnel_last"], tunnel, *oldest)]
            peers = peers_of(tunnel, ends, [*found, *last])
            of_peers = await connection.fetch(self._sql["peer_since"], peers, since, limit)
            before = await connection.fetch(self._sql["peer_last"], peers, since)
        rows = HistoryRows(found, [_peer(row) for row in (*before, *of_peers)])
        is_complete = len(found) < limit and len(of_peers) < limit
        return HistorySpan(rows, {row.peer: row for row in last}, is_complete)

    async def fleet_at(self, at: datetime) -> HistoryRows:
        async with self._store.connection() as connection, connection.transaction(isolation="repeatable_read"):
            tunnels = await connection.fetch(self._sql["tunnels_at"], at)
            peers = await connection.fetch(self._sql["peers_at"], at)
            applied = await connection.fetch(self._sql["applied_at"], at)
        return HistoryRows(
            [_tunnel(row) for row in tunnels], [_peer(row) for row in peers], [_applied(row) for row in applied]
        )

    async def _make_partitions(self, connection: Connection, days: set[date]) -> None:
        for day in sorted(days - self._days):
            for table in _TABLES:
                await connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {table}_{day:%Y%m%d} PARTITION OF {table}"
                    f" FOR VALUES FROM ('{day}T00:00:00Z') TO ('{day + DAY}T00:00:00Z')"
                )


def _kinds(*kinds: Sequence[AnyRow]) -> tuple[Sequence[AnyRow], ...]:
    return kinds


def _oldest(found: Sequence[TunnelRow], otherwise: Position) -> Position:
    """The position of the oldest of rows that are ordered newest first."""
    return (found[-1].place.at, found[-1].place.sequence) if found else otherwise


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _tunnel_values(row: TunnelRow) -> tuple[Any, ...]:
    place = row.place
    return (
        place.at, place.sequence, place.event_id, row.peer, row.tunnel, row.state.value, row.reason.value, row.detail,
        row.policy, row.other, row.initiator, row.removed,
    )  # fmt: skip


def _peer_values(row: PeerRow) -> tuple[Any, ...]:
    place = row.place
    return place.at, place.sequence, place.event_id, row.peer, row.presence.value, row.reason, row.revoked


def _applied_values(row: AppliedRow) -> tuple[Any, ...]:
    place = row.place
    return (
        place.at, place.sequence, place.event_id, row.peer, row.epoch, row.revision, row.ok, row.duration_ms, row.error
    )  # fmt: skip


def _place(row: "Record") -> RowPlace:
    return RowPlace(row["at"], row["sequence"], row["event_id"])


def _tunnel(row: "Record") -> TunnelRow:
    return TunnelRow(
        _place(row), row["peer"], row["tunnel"], TunnelState(row["state"]), ReasonCode(row["reason"]), row["detail"],
        row["policy"], row["other"], row["initiator"], row["removed"],
    )  # fmt: skip


def _peer(row: "Record") -> PeerRow:
    return PeerRow(_place(row), row["peer"], PresenceState(row["presence"]), row["reason"], row["revoked"])


def _applied(row: "Record") -> AppliedRow:
    return AppliedRow(
        _place(row), row["peer"], row["epoch"], row["revision"], row["ok"], row["duration_ms"], row["error"]
    )  # fmt: skip
