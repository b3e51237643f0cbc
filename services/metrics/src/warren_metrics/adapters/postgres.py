"""The last known state on PostgreSQL."""

import asyncio

from warren_metrics.domain.changes import TunnelKey
from warren_metrics.domain.peers import PeerView, TunnelView
from warren_metrics.ports import KnownState, RowChanges
from warren_store import Store, load_migrations, load_queries

SCHEMA = "metrics"
SLICE = 500  # tunnels that are read at once: 20 ms of the event loop


def make_store(dsn: str) -> Store:
    """The service's schema with its migrations; nothing connects yet."""
    return Store(dsn, schema=SCHEMA, migrations=load_migrations("warren_metrics"))


class PostgresFleetStore:
    """`FleetStore` on PostgreSQL."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sql = load_queries("warren_metrics", "queries.sql")

    async def load(self) -> KnownState:
        async with self._store.connection() as connection, connection.transaction(isolation="repeatable_read"):
            peers = await connection.fetch(self._sql["peers"])
            tunnels = await connection.fetch(self._sql["tunnels"])
        known: dict[TunnelKey, TunnelView] = {}
        for number, row in enumerate(tunnels):
            known[row["peer"], row["name"]] = TunnelView.from_stored(row["view"])
            if number % SLICE == 0:
                await asyncio.sleep(0)
        return KnownState({row["id"]: PeerView.model_validate_json(row["view"]) for row in peers}, known)

    async def save(self, rows: RowChanges) -> None:
        peers = [(peer, view.model_dump_json()) for peer, view in rows.peers.items() if view is not None]
        tunnels = [(*key, view.to_stored()) for key, view in rows.tunnels.items() if view is not None]
        gone_peers = [peer for peer, view in rows.peers.items() if view is None]
        gone_tunnels = [key for key, view in rows.tunnels.items() if view is None]
        async with self._store.transaction() as connection:
            await connection.execute(self._sql["put_peers"], *_columns(peers, 2))
            await connection.execute(self._sql["put_tunnels"], *_columns(tunnels, 3))
            await connection.execute(self._sql["delete_tunnels"], *_columns(gone_tunnels, 2))
            await connection.execute(self._sql["delete_peers"], gone_peers)


def _columns(rows: "list[tuple[str, str]] | list[tuple[str, str, str]]", width: int) -> list[list[str]]:
    return [[row[index] for row in rows] for index in range(width)]
