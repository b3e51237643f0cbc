"""Which peers carry which tags, and since when, in PostgreSQL."""

from datetime import datetime

from warren_contracts.names import PeerId, Scope
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry.scopes", "scopes.sql")


class PostgresScopes:
    """`ports.ScopeRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def holders(self, scope: Scope, after: str, limit: int) -> tuple[tuple[PeerId, datetime], ...]:
        rows = await self._connection.fetch(SQL["holders"], list(scope), after, limit)
        return tuple((row["peer"], row["since"]) for row in rows)
