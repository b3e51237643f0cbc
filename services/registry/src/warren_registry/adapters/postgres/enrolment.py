"""Join tokens in PostgreSQL: hashes only."""

from datetime import datetime
from typing import Any

from warren_contracts.names import Tag
from warren_registry.enrolment.model import JoinTokenRow
from warren_store import Connection, load_queries

SQL = load_queries("warren_registry.enrolment", "join_tokens.sql")


class PostgresJoinTokens:
    """`ports.JoinTokenRows`."""

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
