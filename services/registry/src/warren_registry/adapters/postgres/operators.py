"""Operators' tokens in PostgreSQL: hashes only."""

from datetime import datetime
from typing import Any

from warren_contracts.commands import Role
from warren_registry.operators.model import OperatorRow
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry.operators", "operators.sql")


class PostgresOperators:
    """`ports.OperatorRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def operator(self, digest: bytes) -> OperatorRow | None:
        return operator_of(await self._connection.fetchrow(SQL["operator_token"], digest))

    async def add_operator(self, row: OperatorRow) -> bool:
        added = await self._connection.fetchval(
            SQL["add_operator_token"],
            row.digest,
            row.name,
            row.role.value,
            row.created_by,
            row.created_at,
            row.expires_at,
            list(row.scope) if row.scope is not None else None,
        )
        return bool(added)

    async def operator_page(self, after: str, limit: int) -> tuple[OperatorRow, ...]:
        rows = map(operator_of, await self._connection.fetch(SQL["operator_token_page"], after, limit))
        return tuple(row for row in rows if row is not None)

    async def remove_operator(self, name: str) -> OperatorRow | None:
        return operator_of(await self._connection.fetchrow(SQL["remove_operator_token"], name))

    async def valid_operators(self, now: datetime) -> frozenset[str]:
        return frozenset(row["name"] for row in await self._connection.fetch(SQL["valid_operators"], now))


def operator_of(row: Any) -> OperatorRow | None:
    """An operator token of its row."""
    if row is None:
        return None
    return OperatorRow(
        name=row["name"], role=Role(row["role"]), digest=row["digest"], created_at=row["created_at"],
        expires_at=row["expires_at"], created_by=row["created_by"],
        scope=tuple(row["scope"]) if row["scope"] is not None else None,
    )  # fmt: skip
