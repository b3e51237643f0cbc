"""A supervised connection, which is re-established whatever happened to the server or to the client.

nats-py reconnects by itself, but closes for good on some errors (an authorization that is refused or revoked while connected,
any -ERR that it does not know). Then a new client is built here. Owners of subscriptions renew them in `on_connected`, which is
called after every connect, every reconnect and every rebuild; they can compare `client` with the one that they used before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from warren_bus.client import PatchedClient
from warren_bus.connect_backoff import Uniform
from warren_bus.dial import Callbacks, Dialer
from warren_bus.errors import InvalidSettingError, NotConnectedError
from warren_bus.settings import BusSettings
from warren_process.background import BackgroundTasks, end_tasks
from warren_trust.errors import InvalidKeyError

log = structlog.get_logger("warren_bus")

FLUSH_TIMEOUT = 2  # s for what was published before a clean stop
CLOSE_TIMEOUT = 2.0  # s for the server to end TLS
CALLBACK_RETRY = 1.0  # s until a failed callback is called again

Connected = Callable[[], Awaitable[None]]
Disconnected = Callable[[], None]
Failed = Callable[[Exception], None]


class Connection:
    """`async with Connection(...)` starts connecting and returns at once; `wait_connected()` waits."""

    def __init__(
        self,
        settings: BusSettings,
        *,
        name: str,
        inbox_prefix: str,
        rng: Uniform | None = None,
        return_spread_s: float = 0.0,
    ) -> None:
        """`return_spread_s`: the second attempt comes at a random moment within so many seconds."""
        self.name = name
        self._dialer = Dialer(settings, name, inbox_prefix, rng, return_spread_s)
        self._client: PatchedClient | None = None
        self._up = asyncio.Event()
        self._closed = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._callbacks = BackgroundTasks()
        self._on_connected: list[Connected] = []
        self._on_disconnected: list[Disconnected] = []
        self._on_error: list[Failed] = []
        self.connects = 0  # connects and reconnects so far

    async def __aenter__(self) -> "Connection":
        self._supervisor = asyncio.create_task(self._supervise(), name=f"bus:{self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._supervisor is not None:
            await end_tasks(self._supervisor)
            with suppress(asyncio.CancelledError, InvalidKeyError, InvalidSettingError):
                self._supervisor.result()
        await self._callbacks.close()
        client, self._client = self._client, None
        self._up.clear()
        if client is not None:
            with suppress(NatsError, TimeoutError, OSError):
                if client.is_connected:
                    await client.flush(timeout=FLUSH_TIMEOUT)
            await client.end(CLOSE_TIMEOUT)

    @property
    def client(self) -> Client:
        """The connected client; raises NotConnectedError while the bus is unavailable. Do not store it: it may be replaced."""
        if self._client is None or not self._client.is_connected:
            raise NotConnectedError
        return self._client

    @property
    def is_connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    def use_servers(self, servers: tuple[str, ...]) -> None:
        """Dial these from the next attempt on; a connection that is up stays. Raises InvalidSettingError."""
        self._dialer.use_servers(servers)
        if self._client is not None and not self._client.is_closed:
            self._client.set_server_pool(list(servers))

    async def wait_connected(self) -> Client:
        """Wait for the connected client. Raises InvalidKeyError or InvalidSettingError when a file cannot be used."""
        if self._supervisor is None:
            raise NotConnectedError("the connection was not started: use `async with`")
        waiting = asyncio.ensure_future(self._up.wait())
        try:
            await asyncio.wait({waiting, self._supervisor}, return_when=asyncio.FIRST_COMPLETED)
            if self._supervisor.done():
                self._supervisor.result()
        finally:
            waiting.cancel()
        return self.client

    def on_connected(self, callback: Connected) -> None:
        """Register a callback for every connect; if connected, it is called at once.

        A call that still runs is cancelled by the next one; a failed call is repeated.
        """
        self._on_connected.append(callback)
        if self._up.is_set():
            self._start_callbacks(callback)

    def on_disconnected(self, callback: Disconnected) -> None:
        self._on_disconnected.append(callback)

    def on_error(self, callback: Failed) -> None:
        """Register a callback for errors that do not end the connection: a slow consumer, a refused subscription."""
        self._on_error.append(callback)

    async def _supervise(self) -> None:
        while True:
            self._closed.clear()
            client = await self._dialer.dial(Callbacks(self._lost, self._back, self._ended, self._failed))
            self._client = client
            await self._back()
            await self._closed.wait()
            wait = self._dialer.backoff.next()
            log.warning("bus.closed", client=self.name, retry_s=wait)
            await asyncio.sleep(wait)

    async def _back(self) -> None:
        self.connects += 1
        self._up.set()
        log.info("bus.connected", client=self.name, connects=self.connects)
        self._callbacks.cancel()
        self._start_callbacks(*self._on_connected)

    def _start_callbacks(self, *callbacks: Connected) -> None:
        self._callbacks.spawn(self._call_until_done(callbacks), name=f"bus:{self.name}:connected")

    async def _call_until_done(self, callbacks: tuple[Connected, ...]) -> None:
        """Repeat failed callbacks: a server that has just started may refuse a request that it accepts soon.

        Without a connection this ends; the next connect calls all callbacks.
        """
        while callbacks:
            callbacks = tuple([callback for callback in callbacks if not await self._call(callback)])
            if callbacks:
                await asyncio.sleep(CALLBACK_RETRY)
                if not self.is_connected:
                    return

    async def _call(self, callback: Connected) -> bool:
        try:
            await callback()
        except (NatsError, TimeoutError, OSError, NotConnectedError) as error:
            log.warning("bus.callback_failed", client=self.name, error=str(error) or type(error).__name__)
            return False
        return True

    async def _lost(self) -> None:
        self._up.clear()
        emit = log.debug if self._client is None else log.warning  # we are closing, or the bus became unavailable
        emit("bus.disconnected", client=self.name)
        for callback in self._on_disconnected:
            callback()

    async def _ended(self) -> None:
        self._up.clear()
        self._closed.set()

    async def _failed(self, error: Exception) -> None:
        # While the bus is unavailable, every reconnect fails the same way, and the first failure was logged.
        emit = log.info if self.is_connected else log.debug
        emit("bus.error", client=self.name, error=str(error) or type(error).__name__)
        for callback in self._on_error:
            callback(error)
