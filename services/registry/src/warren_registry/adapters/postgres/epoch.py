"""The fleet's counters and its trust in PostgreSQL."""

from warren_registry.ports import FleetState, TrustRow
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry.epoch", "fleet.sql")


class PostgresFleetRows:
    """`ports.FleetRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def state(self) -> FleetState:
        row = await self._connection.fetchrow(SQL["fleet_state"])
        if row is None:
            raise RuntimeError("the table fleet is empty: restore the database")
        return FleetState(*row)

    async def next_revision(self, count: int = 1) -> int:
        return int(await self._connection.fetchval(SQL["next_revision"], count))

    async def set_epoch(self, epoch: int) -> None:
        await self._connection.execute(SQL["set_epoch"], epoch)

    async def set_stream_incarnation(self, incarnation: str) -> None:
        await self._connection.execute(SQL["set_stream_incarnation"], incarnation)

    async def set_tombstones_reclaimed(self, revision: int) -> None:
        await self._connection.execute(SQL["set_tombstones_reclaimed"], revision)

    async def last_trust(self) -> TrustRow | None:
        row = await self._connection.fetchrow(SQL["last_trust"])
        if row is None:
            return None
        epoch, revision, policy, registry, servers, authorities = row
        return TrustRow(epoch, revision, policy, registry, tuple(servers), tuple(authorities))

    async def add_trust(self, row: TrustRow) -> None:
        await self._connection.execute(SQL["add_trust"], *row)
