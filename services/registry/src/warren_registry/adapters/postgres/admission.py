"""What the auth callout reads. It writes nothing and applies no migrations."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from warren_registry.adapters.postgres.tokens import join_token_of, operator_of
from warren_registry.domain.admission import KeyRight
from warren_registry.domain.tokens import JoinTokenRow, OperatorRow
from warren_store import Connection, PostgresUnavailableError, Store, load_queries

SQL = load_queries("warren_registry", "admission.sql")
CHANNEL = "warren_admission"


class PostgresAdmission:
    """`callout.AdmissionRows` on a store that is open."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._store.connection() as connection:
                yield connection
        except asyncpg.UndefinedTableError:  # the registry has not made its tables yet: nobody can be known
            raise PostgresUnavailableError("the registry has not prepared its tables yet") from None

    async def right(self, nkey: str) -> KeyRight:
        async with self._connection() as connection:
            return _right(await connection.fetchrow(SQL["admission_of_key"], nkey))

    async def join_token(self, identifier: str) -> JoinTokenRow | None:
        async with self._connection() as connection:
            return join_token_of(await connection.fetchrow(SQL["admission_join_token"], identifier))

    async def operator(self, digest: bytes) -> OperatorRow | None:
        async with self._connection() as connection:
            return operator_of(await connection.fetchrow(SQL["admission_operator"], digest))

    async def everybody(self) -> tuple[tuple[KeyRight, ...], tuple[OperatorRow, ...]]:
        async with self._connection() as connection:
            rights = tuple(map(_right, await connection.fetch(SQL["admission_of_everybody"])))
            rows = await connection.fetch(SQL["admission_operators"])
            return rights, tuple(row for row in map(operator_of, rows) if row is not None)


def _right(row: Any) -> KeyRight:
    return KeyRight(row["nkey"], row["id"] or "", tuple(row["tags"] or ()), row["version"] or 0, bool(row["revoked"]))
