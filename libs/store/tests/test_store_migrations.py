import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from warren_store import DamagedMigrationsError, Migration, migrate
from warren_store.migrations import ordered
from warren_testkit.postgres import PostgresServer

FIRST = Migration(1, "rabbits", "CREATE TABLE rabbit (name text PRIMARY KEY);")
SECOND = Migration(
    2, "ears", "ALTER TABLE rabbit ADD COLUMN ears integer NOT NULL DEFAULT 2; INSERT INTO rabbit VALUES ('flopsy');"
)
BROKEN = Migration(2, "broken", "INSERT INTO rabbit VALUES ('mopsy'); SELECT no_such_function();")


@pytest.fixture
async def connection(postgres: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.dsn())
    try:
        await connection.execute("DROP SCHEMA IF EXISTS burrow CASCADE")
        yield connection
    finally:
        await connection.close()


async def test_everything_is_applied_from_empty_and_nothing_twice(connection: asyncpg.Connection) -> None:
    assert await migrate(connection, "burrow", (FIRST, SECOND)) == (1, 2)
    assert await migrate(connection, "burrow", (FIRST, SECOND)) == ()
    assert await connection.fetchval("SELECT ears FROM burrow.rabbit") == 2


async def test_a_new_number_is_applied_to_what_there_is(connection: asyncpg.Connection) -> None:
    assert await migrate(connection, "burrow", (FIRST,)) == (1,)
    assert await migrate(connection, "burrow", (FIRST, SECOND)) == (2,)


async def test_a_failing_file_leaves_nothing_of_itself(connection: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await migrate(connection, "burrow", (FIRST, BROKEN))
    assert await connection.fetchval("SELECT count(*) FROM burrow.rabbit") == 0
    assert await migrate(connection, "burrow", (FIRST, SECOND)) == (2,)


async def test_instances_that_start_together_apply_each_file_once(
    postgres: PostgresServer, connection: asyncpg.Connection
) -> None:
    others = [await asyncpg.connect(postgres.dsn()) for _ in range(4)]
    try:
        done = await asyncio.gather(*(migrate(other, "burrow", (FIRST, SECOND)) for other in others))
    finally:
        for other in others:
            await other.close()
    assert sorted(number for numbers in done for number in numbers) == [1, 2]


async def test_a_changed_file_is_refused(connection: asyncpg.Connection) -> None:
    await migrate(connection, "burrow", (FIRST,))
    with pytest.raises(DamagedMigrationsError, match="has changed since"):
        await migrate(connection, "burrow", (Migration(1, "rabbits", FIRST.sql + " "), SECOND))


async def test_an_older_release_refuses_a_newer_schema(connection: asyncpg.Connection) -> None:
    await migrate(connection, "burrow", (FIRST, SECOND))
    with pytest.raises(DamagedMigrationsError, match="newer release"):
        await migrate(connection, "burrow", (FIRST,))


async def test_an_odd_schema_name_is_refused(connection: asyncpg.Connection) -> None:
    with pytest.raises(DamagedMigrationsError, match="invalid schema name"):
        await migrate(connection, "burrow; DROP", (FIRST,))


def test_gaps_and_repeats_are_refused() -> None:
    assert ordered((SECOND, FIRST)) == (FIRST, SECOND)
    with pytest.raises(DamagedMigrationsError, match="numbered from 1"):
        ordered((SECOND,))
    with pytest.raises(DamagedMigrationsError, match="numbered from 1"):
        ordered((FIRST, SECOND, BROKEN))
