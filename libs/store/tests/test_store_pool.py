import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest
import structlog

from warren_contracts.problems import InvalidInputError
from warren_store import Listener, Migration, PostgresUnavailableError, Store
from warren_store import store as store_module
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_testkit.waiting import eventually

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


END_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'warren-burrow'"
TERMINATION = b"terminating connection due to administrator command"


class Delaying:
    """A relay of a server's socket that delays the end of each connection."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.dsn = server.dsn().partition("?")[0] + f"?host={folder}"
        self._real = server.dsn().rpartition("=")[2] + "/.s.PGSQL.5432"
        self._path = folder / ".s.PGSQL.5432"
        self._writers: list[asyncio.StreamWriter] = []
        self.terminated = asyncio.Event()

    async def __aenter__(self) -> "Delaying":
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.end()

    async def end(self) -> None:
        """End the connections now."""
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_unix_connection(self._real)
        self._writers += [writer, below]
        await asyncio.gather(self._pass(reader, below), self._pass(above, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
                if TERMINATION in data:
                    self.terminated.set()


@pytest.fixture
async def delaying(postgres: PostgresServer) -> AsyncIterator[Delaying]:
    postgres.sql("DROP SCHEMA IF EXISTS burrow CASCADE")
    with TemporaryDirectory(prefix="wpd", dir="/tmp") as folder:
        async with Delaying(postgres, Path(folder)) as running:
            yield running


@pytest.fixture
async def store(delaying: Delaying) -> AsyncIterator[Store]:
    async with Store(delaying.dsn, schema="burrow", migrations=MIGRATIONS) as running:
        yield running


async def end_connections(postgres: PostgresServer, delaying: Delaying) -> None:
    """As at a clean stop: the server announces the end of the connections, and they are not closed yet."""
    await asyncio.to_thread(postgres.sql, END_OTHERS)
    await asyncio.wait_for(delaying.terminated.wait(), 60)
    for _ in range(10):  # iterations of the event loop, in which the client reads what was written
        await asyncio.sleep(0)


async def test_a_connection_that_is_about_to_end_is_unavailable_and_then_replaced(
    postgres: PostgresServer, delaying: Delaying, store: Store
) -> None:
    async with store.connection() as connection:
        assert await connection.fetchval(COUNT) == 0
    await end_connections(postgres, delaying)
    with pytest.raises(PostgresUnavailableError):
        await insert_one(store)
    await insert_one(store)
    await delaying.end()


async def test_a_connection_that_is_about_to_end_can_be_released(
    postgres: PostgresServer, delaying: Delaying, store: Store
) -> None:
    async with store.connection() as connection:
        assert await connection.fetchval(COUNT) == 0
        await end_connections(postgres, delaying)
    await insert_one(store)
    await delaying.end()


async def insert_one(store: Store) -> None:
    async with store.transaction() as connection:
        await connection.execute(INSERT, "flopsy")


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800"])
async def test_a_text_that_cannot_be_stored_is_the_callers_error(postgres: PostgresServer, text: str) -> None:
    async with store_of(postgres) as store:
        for statement, value in (("SELECT $1::text", text), ("SELECT $1::jsonb", '{"a": "\\u0000"}')):
            with pytest.raises(InvalidInputError, match="NUL"):
                await fetch(store, statement, value)
        assert await fetch(store, "SELECT $1::text", "good") == "good"


async def fetch(store: Store, statement: str, value: str) -> object:
    async with store.transaction() as connection:
        return await connection.fetchval(statement, value)


async def test_a_failed_block_leaves_nothing(postgres: PostgresServer) -> None:
    postgres.sql("DROP SCHEMA IF EXISTS burrow CASCADE")
    async with store_of(postgres) as store:
        with pytest.raises(asyncpg.UniqueViolationError):
            await insert_twice(store)
        async with store.connection() as connection:
            assert await connection.fetchval(COUNT) == 0


async def test_a_full_disk_of_postgres_is_reported_as_that(postgres: PostgresServer) -> None:
    async with store_of(postgres) as store:
        with pytest.raises(PostgresUnavailableError, match="the disk of PostgreSQL is full"):
            async with store.transaction() as connection:
                await connection.execute("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$")
        await eventually(store.ready)


async def test_a_store_serves_again_after_the_server_was_unavailable(stoppable: PostgresServer) -> None:
    stoppable.stop()
    async with store_of(stoppable) as store:
        assert not await store.ready()
        with pytest.raises(PostgresUnavailableError, match="PostgreSQL is unavailable"):
            async with store.transaction() as connection:
                await connection.execute(INSERT, "never")
        stoppable.start()
        await eventually(store.ready)
        async with store.transaction() as connection:
            await connection.execute(INSERT, "flopsy")

        stoppable.kill()
        assert not await store.ready()
        stoppable.start()
        async with store.connection() as connection:
            assert await connection.fetchval(COUNT) == 1


async def test_a_server_that_stops_inside_a_transaction_rolls_it_back(stoppable: PostgresServer) -> None:
    async with store_of(stoppable) as store:
        with pytest.raises(PostgresUnavailableError):
            await insert_while_killed(store, stoppable)
        await asyncio.to_thread(stoppable.start)
        async with store.connection() as connection:
            assert await connection.fetchval(COUNT) == 0


async def test_a_reader_applies_no_migrations(postgres: PostgresServer) -> None:
    postgres.sql("DROP SCHEMA IF EXISTS burrow CASCADE")
    async with Store(postgres.dsn(), schema="burrow", migrations=None) as store:
        await eventually(store.ready)
        with pytest.raises(asyncpg.UndefinedTableError):
            async with store.connection() as connection:
                await connection.fetchval(COUNT)


async def test_a_listener_reports_a_gap_after_every_connect(stoppable: PostgresServer) -> None:
    received: asyncio.Queue[str] = asyncio.Queue()

    async def on_gap() -> None:
        received.put_nowait("gap")

    async def on_notify(payload: str) -> None:
        received.put_nowait(payload)

    async with asyncio.timeout(90), store_of(stoppable) as store:
        listener = Listener(store, "rabbits", on_gap=on_gap, on_notify=on_notify)
        task = asyncio.create_task(listener.run())
        try:
            assert await received.get() == "gap"
            await asyncio.to_thread(stoppable.sql, "NOTIFY rabbits, 'flopsy'")
            assert await received.get() == "flopsy"
            await asyncio.to_thread(stoppable.stop)
            await asyncio.to_thread(stoppable.start)
            assert await received.get() == "gap"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_listener_that_waits_for_tables_says_so_once(postgres: PostgresServer) -> None:
    """At a first start another service makes them; nothing was lost."""
    failures, was_read = [PostgresUnavailableError()] * 3, asyncio.Event()

    async def on_gap() -> None:
        if failures:
            raise failures.pop()
        was_read.set()

    async def on_notify(payload: str) -> None:
        raise AssertionError(payload)

    async with asyncio.timeout(90), store_of(postgres) as store:
        listener = Listener(store, "rabbits", on_gap=on_gap, on_notify=on_notify)
        with structlog.testing.capture_logs() as logs:
            task = asyncio.create_task(listener.run())
            try:
                await was_read.wait()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    assert [it["event"] for it in logs if it["event"].startswith("store.listener")] == ["store.listener_waits"]


async def test_a_server_that_hangs_blocks_no_caller_longer_than_the_limit(
    stoppable: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limits of connecting and of statements out of reach, so that what waits for one of them does not return."""
    monkeypatch.setattr(store_module, "CONNECT_TIMEOUT", 3600.0)
    monkeypatch.setattr(store_module, "COMMAND_TIMEOUT", 3600.0)
    async with store_of(stoppable) as store:
        await eventually(store.ready)
        stoppable.freeze()
        try:
            async with asyncio.timeout(60):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await insert_twice(store)
                assert not await store.ready()
        finally:
            stoppable.thaw()
        async with store.connection() as connection:
            assert await connection.fetchval(COUNT) == 0
