"""Tokens in PostgreSQL: hashes only."""

from datetime import datetime
from typing import Any

from warren_contracts.commands import Role
from warren_contracts.names import Tag
from warren_registry.domain.tokens import JoinTokenRow, OperatorRow
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry", "peers.sql")


class PostgresTokens:
    """`ports.TokenRows`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def join_token(self, identifier: str) -> JoinTokenRow | None:
        return join_token_of(await self._connection.fetchrow(SQL["join_token"], identifier))

    async def add_join_token(self, row: JoinTokenRow) -> None:
        await self._connection.execute(
            SQL["add_join_token"], row.id, row.digest, list(row.tags), row.uses, row.peer, list(row.subnets), row.note,
            row.created_by, row.created_at, row.expires_at,
        )  # fmt: skip

    async def spend(self, identifier: str) -> None:
        await self._connection.execute(SQL["spend_join_token"], identifier)

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
        )
        return bool(added)

    async def operator_page(self, after: str, limit: int) -> tuple[OperatorRow, ...]:
        rows = map(operator_of, await self._connection.fetch(SQL["operator_token_page"], after, limit))
        return tuple(row for row in rows if row is not None)

    async def remove_operator(self, name: str) -> OperatorRow | None:
        return operator_of(await self._connection.fetchrow(SQL["remove_operator_token"], name))

    async def valid_operators(self, now: datetime) -> frozenset[str]:
        return frozenset(row["name"] for row in await self._connection.fetch(SQL["valid_operators"], now))

    async def join_token_page(self, after: str, limit: int) -> tuple[JoinTokenRow, ...]:
        rows = map(join_token_of, await self._connection.fetch(SQL["join_token_page"], after, limit))
        return tuple(row for row in rows if row is not None)

    async def remove_join_token(self, identifier: str) -> JoinTokenRow | None:
        return join_token_of(await self._connection.fetchrow(SQL["remove_join_token"], identifier))

    async def known_tags(self, now: datetime) -> tuple[Tag, ...]:
        return tuple(row["tag"] for row in await self._connection.fetch(SQL["known_tags"], now))


def join_token_of(row: Any) -> JoinTokenRow | None:
    """A join token of its row."""
    if row is None:
        return None
    return JoinTokenRow(
        id=row["id"], digest=row["digest"], tags=tuple(row["tags"]), uses=row["uses"], used=row["used"],
        created_at=row["created_at"], expires_at=row["expires_at"], peer=row["peer"], subnets=tuple(row["subnets"]),
        note=row["note"], created_by=row["created_by"],
    )  # fmt: skip


def operator_of(row: Any) -> OperatorRow | None:
    """An operator token of its row."""
    if row is None:
        return None
    return OperatorRow(
        name=row["name"], role=Role(row["role"]), digest=row["digest"], created_at=row["created_at"],
        expires_at=row["expires_at"], created_by=row["created_by"],
    )  # fmt: skip
