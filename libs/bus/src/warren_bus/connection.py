"""A supervised connection: it is there again, whatever happened to the server or to the client.

nats-py reconnects by itself, but closes for good on some errors (an authorization that is refused or revoked in the
middle, any -ERR that it does not know). Then a new client is built here. Whoever holds subscriptions makes them again in
`on_connected`, which is called after every connect, every reconnect and every rebuild; it can compare `client` with the
one that it used before.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from warren_bus.dial import Callbacks, Dialer, Uniform
from warren_bus.errors import NotConnectedError
from warren_bus.settings import BusSettings
from warren_trust.errors import InvalidKeyError

log = structlog.get_logger("warren_bus")

FLUSH_TIMEOUT = 2  # s for what was published before a clean stop
CALLBACK_RETRY = 1.0  # s until a callback that failed is called again
CANCEL_TIMEOUT = 1.0  # s for a task to end before it is asked again

Connected = Callable[[], Awaitable[None]]
Disconnected = Callable[[], None]
Failed = Callable[[Exception], None]


class Connection:
    """`async with Connection(...)` starts connecting and returns at once; `wait_connected()` waits."""

    def __init__(self, settings: BusSettings, *, name: str, inbox_prefix: str, rng: Uniform | None = None) -> None:
        self.name = name
        self._dialer = Dialer(settings, name, inbox_prefix, rng)
        self._client: Client | None = None
        self._up = asyncio.Event()
        self._closed = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._announcers: set[asyncio.Task[None]] = set()
        self._on_connected: list[Connected] = []
        self._on_disconnected: list[Disconnected] = []
        self._on_error: list[Failed] = []
        self.connects = 0  # how often it was connected: the first time, and each time again

    async def __aenter__(self) -> "Connection":
        self._supervisor = asyncio.create_task(self._supervise(), name=f"bus:{self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in [task for task in (self._supervisor, *self._announcers) if task is not None]:
            while not task.done():  # a cancellation may get lost (PatchedClient says how)
                task.cancel()
                await asyncio.wait({task}, timeout=CANCEL_TIMEOUT)
            with suppress(asyncio.CancelledError, InvalidKeyError):
                task.result()
        client, self._client = self._client, None
        self._up.clear()
        if client is not None:
            with suppress(NatsError, TimeoutError, OSError):
                if client.is_connected:
                    await client.flush(timeout=FLUSH_TIMEOUT)
            await client.close()

    @property
    def client(self) -> Client:
        """The connected client; raises NotConnectedError while the bus is unavailable. Do not keep it: it may be replaced."""
        if self._client is None or not self._client.is_connected:
            raise NotConnectedError
        return self._client

    @property
    def is_connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def wait_connected(self) -> Client:
        """The client, as soon as it is connected; raises what made connecting impossible (InvalidKeyError)."""
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
        """Call this after every connect; also now, if it is connected. An older call that still runs is cancelled first, and
        a call that failed is repeated."""
        self._on_connected.append(callback)
        if self._up.is_set():
            self._announce(callback)

    def on_disconnected(self, callback: Disconnected) -> None:
        self._on_disconnected.append(callback)

    def on_error(self, callback: Failed) -> None:
        """Call this with errors of the client that end nothing: a slow consumer, a refused subscription."""
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
        for task in self._announcers:
            task.cancel()
        self._announce(*self._on_connected)

    def _announce(self, *callbacks: Connected) -> None:
        task = asyncio.create_task(self._tell_connected(callbacks), name=f"bus:{self.name}:connected")
        self._announcers.add(task)
        task.add_done_callback(self._announcers.discard)

    async def _tell_connected(self, callbacks: tuple[Connected, ...]) -> None:
        """What failed is called again until it did not: a server that has just started may refuse what it soon can do.
        Without a connection it waits for the next one, which calls all."""
        while callbacks:
            callbacks = tuple([callback for callback in callbacks if not await self._told(callback)])
            if callbacks:
                await asyncio.sleep(CALLBACK_RETRY)
                if not self.is_connected:
                    return

    async def _told(self, callback: Connected) -> bool:
        try:
            await callback()
        except (NatsError, TimeoutError, OSError, NotConnectedError) as error:
            log.warning("bus.callback_failed", client=self.name, reason=str(error) or type(error).__name__)
            return False
        return True

    async def _lost(self) -> None:
        self._up.clear()
        tell = log.debug if self._client is None else log.warning  # we are closing, or the bus became unavailable
        tell("bus.disconnected", client=self.name)
        for callback in self._on_disconnected:
            callback()

    async def _ended(self) -> None:
        self._up.clear()
        self._closed.set()

    async def _failed(self, error: Exception) -> None:
        # While the bus is unavailable, every try to reconnect fails the same way: one line has told it.
        tell = log.info if self.is_connected else log.debug
        tell("bus.error", client=self.name, reason=str(error) or type(error).__name__)
        for callback in self._on_error:
            callback(error)
