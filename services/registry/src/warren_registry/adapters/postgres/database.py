"""Transactions over the registry's schema."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from warren_registry.adapters.postgres.after_commit import PostgresAfterCommit
from warren_registry.adapters.postgres.audit import PostgresAudit
from warren_registry.adapters.postgres.directory import PostgresDirectory
from warren_registry.adapters.postgres.enrolment import PostgresJoinTokens
from warren_registry.adapters.postgres.epoch import PostgresFleetRows
from warren_registry.adapters.postgres.operators import PostgresOperators
from warren_registry.adapters.postgres.peers import PostgresPeers
from warren_registry.adapters.postgres.presence import PostgresPresence
from warren_registry.adapters.postgres.scopes import PostgresScopes
from warren_store import Store, load_migrations

SCHEMA = "registry"


def registry_store(dsn: str) -> Store:
    """The registry's schema, with its migrations."""
    return Store(dsn, schema=SCHEMA, migrations=load_migrations("warren_registry"))


@dataclass(frozen=True, slots=True)
class PostgresTables:
    """The rows of one transaction."""

    fleet: PostgresFleetRows
    peers: PostgresPeers
    scopes: PostgresScopes
    join_tokens: PostgresJoinTokens
    operators: PostgresOperators
    directory: PostgresDirectory
    after_commit: PostgresAfterCommit
    presence: PostgresPresence
    audit: PostgresAudit


class PostgresDatabase:
    """`ports.Database` on a store that is open."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PostgresTables]:
        async with self._store.transaction() as connection:
            yield PostgresTables(
                PostgresFleetRows(connection), PostgresPeers(connection), PostgresScopes(connection), PostgresJoinTokens(connection),
                PostgresOperators(connection), PostgresDirectory(connection), PostgresAfterCommit(connection),
                PostgresPresence(connection), PostgresAudit(connection),
            )  # fmt: skip

    async def ready(self) -> bool:
        return await self._store.ready()
