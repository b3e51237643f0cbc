"""LISTEN on one channel: a hint that something changed, not the change itself.

PostgreSQL delivers a NOTIFY after the commit and to the sessions that listen at that moment only. So a listener calls
`on_gap` after every (re)connect, where its owner reads everything, and `on_notify` with the payload after that.

Every role of the database may NOTIFY on every channel: a payload is not trusted. One that `on_notify` cannot read (ValueError,
LookupError) is a gap, and so are more of them than are worth reading one by one.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg
import structlog

from warren_process.backoff import Backoff
from warren_store.errors import PostgresUnavailableError, is_unavailable
from warren_store.store import CONNECT_TIMEOUT, Store

FIRST_PAUSE = 0.1  # s before the second attempt to connect
LONGEST_PAUSE = 5.0  # s: a returned server is detected within this
LONGEST_FIRST_PAUSE = 0.5  # s, before the first read: at a first start another service makes the tables meanwhile
MAX_PAYLOADS = 10_000  # that wait: past it, everything is read again instead
UNREADABLE_PAUSE = 1.0  # s between two reads of everything because of unreadable payloads
PROBE_INTERVAL = 10.0  # s between probes of an idle connection: a lost connection is detected within this

GAP = "\0"  # no payload of PostgreSQL: more arrived than are read one by one

log = structlog.get_logger(__name__)


class Listener:
    """Listens on one channel with a connection of its own, outside the pool. Run `run()` as a task; cancel it to stop."""

    def __init__(
        self, store: Store, channel: str, *,
        on_gap: Callable[[], Awaitable[None]], on_notify: Callable[[str], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._store = store
        self._channel = channel
        self._on_gap = on_gap
        self._on_notify = on_notify
        self._is_waiting = False  # for a first read, which was logged
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_FIRST_PAUSE, random.random)

    async def run(self) -> None:
        """Listen until cancelled; reconnect with jittered, growing pauses."""
        while True:
            try:
                connection = await asyncpg.connect(
                    self._store.dsn, timeout=CONNECT_TIMEOUT, command_timeout=CONNECT_TIMEOUT,
                    server_settings={"search_path": self._store.schema, "application_name": "warren-listener"},
                )  # fmt: skip
            except Exception as error:
                if not is_unavailable(error, closed=True):
                    raise
            else:
                await self._follow(connection)
            await asyncio.sleep(self._backoff.next_s())

    async def _follow(self, connection: "asyncpg.Connection") -> None:
        payloads: asyncio.Queue[str | None] = asyncio.Queue()
        connection.add_termination_listener(lambda _connection: payloads.put_nowait(None))

        def arrived(_connection: object, _pid: int, _channel: str, payload: object) -> None:
            if payloads.qsize() <= MAX_PAYLOADS:
                payloads.put_nowait(str(payload) if payloads.qsize() < MAX_PAYLOADS else GAP)

        is_read = False
        try:
            await connection.add_listener(self._channel, arrived)
            await self._on_gap()
            is_read, self._is_waiting = True, False
            self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
            while (payload := await self._next(connection, payloads)) is not None:
                if payload and not await self._handled(payload):
                    await self._read_all(payloads)
        except Exception as error:
            if not isinstance(error, PostgresUnavailableError) and not is_unavailable(
                error, closed=connection.is_closed()
            ):
                raise
            if is_read:
                log.info("store.listener_lost", channel=self._channel, error=type(error).__name__)
            elif not self._is_waiting:
                log.info("store.listener_waits", channel=self._channel, error=type(error).__name__)
                self._is_waiting = True
        finally:
            with suppress(Exception):
                await connection.close(timeout=CONNECT_TIMEOUT)

    async def _handled(self, payload: str) -> bool:
        """Whether the owner could read a payload."""
        if payload == GAP:
            return False
        try:
            await self._on_notify(payload)
        except (ValueError, LookupError) as error:
            log.warning("store.notice_unreadable", channel=self._channel, error=type(error).__name__, size=len(payload))
            return False
        return True

    async def _read_all(self, payloads: "asyncio.Queue[str | None]") -> None:
        """Read everything, which makes the waiting payloads needless; at most once a second, whatever is sent."""
        await asyncio.sleep(UNREADABLE_PAUSE)
        ended = False
        while not payloads.empty():
            ended = payloads.get_nowait() is None or ended
        await self._on_gap()
        if ended:
            payloads.put_nowait(None)

    @staticmethod
    async def _next(connection: "asyncpg.Connection", payloads: "asyncio.Queue[str | None]") -> str | None:
        """The next payload; empty after a successful probe; None when the connection is lost."""
        try:
            async with asyncio.timeout(PROBE_INTERVAL):
                return await payloads.get()
        except TimeoutError:
            await connection.execute("SELECT 1")
            return ""
