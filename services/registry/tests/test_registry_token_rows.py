"""One contract suite for the database in memory and for PostgreSQL: the tokens of hosts and of operators."""

from datetime import datetime, timedelta

import pytest

from warren_contracts.commands import Role
from warren_registry.adapters.postgres.database import PostgresDatabase, registry_store
from warren_registry.operators.model import OperatorRow
from warren_registry.ports import Database
from warren_store import Store, load_migrations
from warren_testkit.postgres import PostgresServer
from warren_testkit.registry.rows import NOW, token


async def test_the_uses_of_a_join_token_are_counted(database: Database) -> None:
    async with database.transaction() as tables:
        await tables.join_tokens.add_join_token(token())
    for used in (1, 2):
        async with database.transaction() as tables:
            await tables.join_tokens.spend("t")
            assert await tables.join_tokens.join_token("t") == token(used=used)
    with pytest.raises(Exception, match="check constraint"):
        await spend(database)
    async with database.transaction() as tables:
        assert await tables.join_tokens.join_token("t") == token(used=2)
        assert await tables.join_tokens.join_token("u") is None


async def spend(database: Database) -> None:
    async with database.transaction() as tables:
        await tables.join_tokens.spend("t")


def operator(name: str, number: int, expires_at: datetime | None = None) -> OperatorRow:
    return OperatorRow(name, Role.ADMIN, bytes([number]) * 32, NOW, expires_at, "ann")


async def test_an_operators_name_is_unique_until_it_is_removed(database: Database) -> None:
    async with database.transaction() as tables:
        assert await tables.operators.add_operator(operator("admin", 1))
        assert not await tables.operators.add_operator(operator("admin", 2))
        assert await tables.operators.operator(b"\x02" * 32) is None
        assert await tables.operators.remove_operator("admin") == operator("admin", 1)
        assert await tables.operators.remove_operator("admin") is None
        assert await tables.operators.add_operator(operator("admin", 2))


async def test_tokens_are_listed_by_page_and_removed(database: Database) -> None:
    rows = [operator("a", 1), operator("b", 2, NOW), operator("c", 3, NOW + timedelta(hours=1))]
    async with database.transaction() as tables:
        for row in rows:
            await tables.operators.add_operator(row)
        await tables.join_tokens.add_join_token(token("t1"))
        await tables.join_tokens.add_join_token(token("t2"))
    async with database.transaction() as tables:
        assert await tables.operators.operator_page("", 2) == tuple(rows[:2])
        assert await tables.operators.operator_page("b", 2) == (rows[2],)
        assert await tables.operators.valid_operators(NOW) == {"a", "c"}
        assert await tables.join_tokens.join_token_page("", 1) == (token("t1"),)
        assert await tables.join_tokens.remove_join_token("t1") == token("t1")
        assert await tables.join_tokens.remove_join_token("t1") is None
        assert await tables.join_tokens.join_token_page("", 9) == (token("t2"),)


async def test_names_that_older_releases_gave_twice_are_distinguished(postgres: PostgresServer) -> None:
    postgres.sql("SET client_min_messages = error; DROP SCHEMA IF EXISTS registry CASCADE")
    old = load_migrations("warren_registry")[:4]
    async with Store(postgres.dsn(), schema="registry", migrations=old) as store, store.connection() as connection:
        for number in (1, 2, 3):
            await connection.execute(
                "INSERT INTO operator_token (digest, name, role, created_by, created_at) VALUES ($1, $2, 'admin', '', $3)",
                bytes([number]) * 32, "admin" if number < 3 else "a" * 63, NOW + timedelta(seconds=number),
            )  # fmt: skip
    async with registry_store(postgres.dsn()) as store, PostgresDatabase(store).transaction() as tables:
        found = await tables.operators.operator_page("", 9)
    assert {row.name for row in found} == {"admin", "admin-020202020202", "a" * 63}
    assert {row.name: row.digest[0] for row in found}["admin"] == 1


async def test_operator_tokens_are_found_by_their_hash(database: Database) -> None:
    row = OperatorRow("admin", Role.ADMIN, b"\x02" * 32, NOW, None, "ann")
    async with database.transaction() as tables:
        await tables.operators.add_operator(row)
        assert await tables.operators.operator(b"\x02" * 32) == row
        assert await tables.operators.operator(b"\x03" * 32) is None


def test_an_operator_token_ends_by_time() -> None:
    forever = OperatorRow("admin", Role.ADMIN, b"", NOW, None)
    assert forever.valid(NOW + timedelta(days=10_000))
    brief = OperatorRow("admin", Role.ADMIN, b"", NOW, NOW + timedelta(minutes=1))
    assert brief.valid(NOW)
    assert not brief.valid(NOW + timedelta(minutes=1))
