"""A connection pool of one service that survives restarts of PostgreSQL.

asyncpg's pool opens connections on demand and replaces closed ones, so nothing here retries in the background: a use
while the server is unavailable fails at once with `PostgresUnavailableError`, and the first use after its return succeeds. Migrations are
applied at the first connection, once per process.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING

import asyncpg
import structlog

from warren_store.errors import invalid_text, is_invalid_text, is_unavailable, unavailable
from warren_store.migrations import Connection, Migration, migrate

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

CONNECT_TIMEOUT = 5.0  # s; a local server answers in milliseconds, and a caller of an RPC waits about as long
COMMAND_TIMEOUT = 15.0  # s for one statement: no statement of the services takes longer
READY_TIMEOUT = 2.0  # s for a health reply, which must arrive before its caller times out
POOL_SIZE = 8  # connections per process; PostgreSQL's default allows 100 in all

log = structlog.get_logger(__name__)


class Store:
    """PostgreSQL for one service: its schema first in the search path, its migrations applied.

    `migrations=None` is for a process that only reads the tables of another one (the auth callout): it applies none, and as reading
    leaves nothing in a session, its connections are not reset between two uses, which would cost a round trip each time.
    """

    def __init__(
        self, dsn: str, *, schema: str, migrations: Sequence[Migration] | None, pool_size: int = POOL_SIZE
    ) -> None:
        self._dsn = dsn
        self._schema = schema
        self._migrations = migrations
        self._pool_size = pool_size
        self._pool: asyncpg.Pool | None = None
        self._migrated = migrations is None
        self._lock = asyncio.Lock()

    @property
    def dsn(self) -> str:
        return self._dsn

    @property
    def schema(self) -> str:
        return self._schema

    async def __aenter__(self) -> "Store":
        self._pool = await asyncpg.create_pool(
            self._dsn, min_size=0, max_size=self._pool_size, timeout=CONNECT_TIMEOUT, command_timeout=COMMAND_TIMEOUT,
            server_settings={"search_path": self._schema, "application_name": f"warren-{self._schema}"},
            reset=_keep if self._migrations is None else None,
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection outside a transaction. Raises PostgresUnavailableError, also for failures inside the block.

        Wait for nothing but PostgreSQL inside: any TimeoutError or OSError is reported as PostgresUnavailableError.
        """
        if self._pool is None:
            raise RuntimeError("the store is closed: use it inside `async with store`")
        connection = await self._acquire(self._pool)
        try:
            await self._ensure_migrated(connection)
            yield connection
        except (asyncio.CancelledError, TimeoutError) as error:
            connection.terminate()  # a statement is in progress: releasing the connection would wait for a server that may hang
            if isinstance(error, TimeoutError):
                raise unavailable(error) from error
            raise
        except Exception as error:
            if is_unavailable(error, closed=_is_closed(connection)):
                with suppress(asyncpg.InterfaceError):  # the pool has taken it back already
                    connection.terminate()
                raise unavailable(error) from error
            if is_invalid_text(error):
                raise invalid_text() from error
            raise
        finally:
            await self._release(self._pool, connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction: all or nothing.

        PostgresUnavailableError at the end of the block may also mean that the commit happened and its reply was lost: commands are
        idempotent.
        """
        async with self.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except (asyncio.CancelledError, TimeoutError):
                raise  # the connection is closed, which rolls back: a ROLLBACK would wait for a server that may hang
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()

    async def ready(self) -> bool:
        """Whether PostgreSQL answers and the migrations are applied; for health replies, never raises."""
        try:
            async with asyncio.timeout(READY_TIMEOUT), self.connection() as connection:
                return bool(await connection.fetchval("SELECT true"))
        except Exception as error:  # noqa: BLE001 - a health reply reports any failure as "not ready"
            log.debug("store.not_ready", schema=self._schema, error=type(error).__name__)
            return False

    @staticmethod
    async def _acquire(pool: "asyncpg.Pool") -> "PoolConnectionProxy":
        try:
            return await pool.acquire(timeout=CONNECT_TIMEOUT)
        except Exception as error:
            if is_unavailable(error, closed=True):
                raise unavailable(error) from error
            raise

    @staticmethod
    async def _release(pool: "asyncpg.Pool", connection: "PoolConnectionProxy") -> None:
        try:
            await pool.release(connection, timeout=CONNECT_TIMEOUT)
        except Exception as error:  # noqa: BLE001 - the work is done or has failed already; the pool has closed this connection
            log.debug("store.lost_connection", error=type(error).__name__)

    async def _ensure_migrated(self, connection: Connection) -> None:
        async with self._lock:
            if self._migrated:
                return
            done = await migrate(connection, self._schema, self._migrations or ())
            self._migrated = True
            if done:
                log.info("store.migrated", schema=self._schema, numbers=done)


async def _keep(_connection: Connection) -> None:
    """Leave a session as it is; asyncpg has ended an open transaction."""


def _is_closed(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:  # the pool has taken a lost connection back already
        return True
