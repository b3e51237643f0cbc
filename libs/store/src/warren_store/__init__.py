"""PostgreSQL for the services: numbered migrations, named queries, and a pool that survives restarts of the server.

It does not depend on `warren_bus`. A service owns one schema and connects as its own role:

    store = Store(dsn, schema="registry", migrations=load_migrations("warren_registry"))
    queries = load_queries("warren_registry", "peers.sql")
    async with store, store.transaction() as connection:
        await connection.execute(queries["insert_peer"], ...)

Nothing connects in a constructor. While PostgreSQL is unavailable every use raises `PostgresUnavailableError` (an `UnavailableError`, 503);
the next use after its return succeeds, and applies the migrations if that was not possible before.
"""

from warren_store.errors import DamagedMigrationsError, PostgresUnavailableError
from warren_store.listener import Listener
from warren_store.migrations import Connection, Migration, load_migrations, migrate
from warren_store.queries import Queries, load_queries
from warren_store.store import Store

__all__ = [
    "Connection",
    "DamagedMigrationsError",
    "Listener",
    "Migration",
    "PostgresUnavailableError",
    "Queries",
    "Store",
    "load_migrations",
    "load_queries",
    "migrate",
]
