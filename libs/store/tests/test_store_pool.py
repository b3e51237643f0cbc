import asyncio
import time
from collections.abc import Iterator

import asyncpg
import pytest

from warren_store import Listener, Migration, PostgresAway, Store
from warren_store.testing import PostgresServer, postgres_server

MIGRATIONS = (Migration(1, "rabbits", "CREATE TABLE rabbit (name text PRIMARY KEY);"),)
INSERT = "INSERT INTO rabbit VALUES ($1)"
COUNT = "SELECT count(*) FROM rabbit"


@pytest.fixture
def stoppable() -> Iterator[PostgresServer]:
    """A server of its own: this test stops it."""
    with postgres_server() as server:
        yield server


def store_of(server: PostgresServer) -> Store:
    return Store(server.dsn(), schema="burrow", migrations=MIGRATIONS)


async def insert_twice(store: Store) -> None:
    async with store.transaction() as connection:
        await connection.execute(INSERT, "flopsy")
        await connection.execute(INSERT, "flopsy")


async def insert_while_killed(store: Store, server: PostgresServer) -> None:
    async with store.transaction() as connection:
        await connection.execute(INSERT, "flopsy")
        await asyncio.to_thread(server.kill)


async def test_a_failed_block_leaves_nothing(postgres: PostgresServer) -> None:
    postgres.sql("DROP SCHEMA IF EXISTS burrow CASCADE")
    async with store_of(postgres) as store:
        with pytest.raises(asyncpg.UniqueViolationError):
            await insert_twice(store)
        async with store.connection() as connection:
            assert await connection.fetchval(COUNT) == 0


async def test_a_store_serves_again_after_the_server_was_away(stoppable: PostgresServer) -> None:
    stoppable.stop()
    async with store_of(stoppable) as store:
        assert not await store.ready()
        with pytest.raises(PostgresAway, match="PostgreSQL is away"):
            async with store.transaction() as connection:
                await connection.execute(INSERT, "never")
        stoppable.start()
        assert await store.ready()
        async with store.transaction() as connection:
            await connection.execute(INSERT, "flopsy")

        stoppable.kill()
        assert not await store.ready()
        stoppable.start()
        async with store.connection() as connection:
            assert await connection.fetchval(COUNT) == 1


async def test_a_server_that_goes_away_inside_a_transaction_undoes_it(stoppable: PostgresServer) -> None:
    async with store_of(stoppable) as store:
        with pytest.raises(PostgresAway):
            await insert_while_killed(store, stoppable)
        await asyncio.to_thread(stoppable.start)
        async with store.connection() as connection:
            assert await connection.fetchval(COUNT) == 0


async def test_a_reader_applies_no_migrations(postgres: PostgresServer) -> None:
    postgres.sql("DROP SCHEMA IF EXISTS burrow CASCADE")
    async with Store(postgres.dsn(), schema="burrow", migrations=None) as store:
        assert await store.ready()
        with pytest.raises(asyncpg.UndefinedTableError):
            async with store.connection() as connection:
                await connection.fetchval(COUNT)


async def test_a_listener_tells_of_a_gap_after_every_connect(stoppable: PostgresServer) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()

    async def on_gap() -> None:
        told.put_nowait("gap")

    async def on_notify(payload: str) -> None:
        told.put_nowait(payload)

    async with asyncio.timeout(30), store_of(stoppable) as store:
        listener = Listener(store, "rabbits", on_gap=on_gap, on_notify=on_notify)
        task = asyncio.create_task(listener.run())
        try:
            assert await told.get() == "gap"
            await asyncio.to_thread(stoppable.sql, "NOTIFY rabbits, 'flopsy'")
            assert await told.get() == "flopsy"
            await asyncio.to_thread(stoppable.stop)
            await asyncio.to_thread(stoppable.start)
            assert await told.get() == "gap"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_hangs_holds_nobody_longer_than_the_limit(stoppable: PostgresServer) -> None:
    async with store_of(stoppable) as store:
        assert await store.ready()
        stoppable.freeze()
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await insert_twice(store)
        assert time.monotonic() - start < 2
        assert not await store.ready()
        assert time.monotonic() - start < 5
        stoppable.thaw()
        async with store.connection() as connection:
            assert await connection.fetchval(COUNT) == 0
