"""Credentials in the registry's PostgreSQL schema, read-only.

The contract with the registry's migrations:

    table           columns read
    peer            id, nkey, tags, version, revoked_at
    revoked_key     nkey, peer, version
    join_token      id, digest, uses, used, expires_at
    operator_token  digest, name, role, expires_at, scope

and NOTIFY on the channel `warren_admission` after each change of them that matters here, with the payload
`peer <nkey>`, `revoked_key <nkey>` or `operator_token <digest in hex>`. The role needs USAGE on the schema and SELECT.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from warren_callout.domain.admission import JoinTokenState, KeyStatus, OperatorTokenRow
from warren_contracts.commands import Role
from warren_store import Connection, PostgresUnavailableError, Store, load_queries

SCHEMA = "registry"
CHANNEL = "warren_admission"
SQL = load_queries("warren_callout", "admission.sql")


def credential_store(dsn: str) -> Store:
    """The registry's schema, without applying migrations."""
    return Store(dsn, schema=SCHEMA, migrations=None)


class PostgresCredentials:
    """`ports.CredentialRows` on an open store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        try:
            async with self._store.connection() as connection:
                yield connection
        except asyncpg.UndefinedTableError:  # the registry has not applied its migrations yet: no credential exists
            raise PostgresUnavailableError("the registry has not created its tables yet") from None
        except asyncpg.UndefinedColumnError:  # those of this release: whether a token has a scope is not known
            raise PostgresUnavailableError("the registry has not brought its tables to this release yet") from None

    async def key_status(self, nkey: str) -> KeyStatus:
        async with self._connection() as connection:
            return _key_status(await connection.fetchrow(SQL["key_status"], nkey))

    async def join_token(self, identifier: str) -> JoinTokenState | None:
        async with self._connection() as connection:
            row = await connection.fetchrow(SQL["join_token"], identifier)
        return None if row is None else JoinTokenState(**dict(row))

    async def operator_token(self, digest: bytes) -> OperatorTokenRow | None:
        async with self._connection() as connection:
            row = await connection.fetchrow(SQL["operator_token"], digest)
        return None if row is None else _operator_token(row)

    async def load_all(self) -> tuple[tuple[KeyStatus, ...], tuple[OperatorTokenRow, ...]]:
        async with self._connection() as connection:
            keys = tuple(map(_key_status, await connection.fetch(SQL["all_keys"])))
            return keys, tuple(map(_operator_token, await connection.fetch(SQL["all_operator_tokens"])))


def _key_status(row: Any) -> KeyStatus:
    return KeyStatus(row["nkey"], row["id"] or "", tuple(row["tags"] or ()), row["version"] or 0, bool(row["revoked"]))


def _operator_token(row: Any) -> OperatorTokenRow:
    return OperatorTokenRow(row["name"], Role(row["role"]), row["digest"], row["expires_at"], row["scoped"])
