"""Make a client that is connected, and stays so.

The waits between its attempts are ours (docs/bus.md, pitfall c2): nats-py's are fixed, so that a fleet would return as one wave, and
a refused client would retry forever at the same pace.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Any

import structlog
from nats.aio.client import Client, Server
from nats.errors import Error as NatsError

from warren_bus.client import PatchedClient
from warren_bus.connect_backoff import ConnectBackoff, Uniform
from warren_bus.settings import BusSettings
from warren_bus.tls import ClientTls
from warren_trust.keys import call_key

log = structlog.get_logger("warren_bus")

CONNECT_TIMEOUT = 5  # s for each step of the handshake; the callout answers within 2 s (docs/bus.md, c1)
DIAL_TIMEOUT = 15.0  # s for one attempt
DRAIN_TIMEOUT = 5  # s to finish what is in progress at a clean stop
PING_INTERVAL = 20  # s: a server that hangs is detected within a minute
MAX_PINGS = 2


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Callbacks to the owner of a client."""

    disconnected: Callable[[], Awaitable[None]]
    reconnected: Callable[[], Awaitable[None]]
    closed: Callable[[], Awaitable[None]]
    error: Callable[[Exception], Awaitable[None]]


class Dialer:
    """Dials until a client is connected. One dialer belongs to one owner."""

    def __init__(
        self,
        settings: BusSettings,
        name: str,
        inbox_prefix: str,
        rng: Uniform | None = None,
        return_spread_s: float = 0.0,
    ) -> None:
        self._settings = settings
        self._name = name
        self._inbox_prefix = inbox_prefix
        self._tls = ClientTls(settings.ca_file) if settings.ca_file is not None else None
        self.backoff = ConnectBackoff(rng or SystemRandom(), return_spread_s)

    def use_servers(self, servers: tuple[str, ...]) -> None:
        """Dial these from the next attempt on. Raises InvalidSettingError."""
        self._settings = replace(self._settings, servers=servers)

    async def dial(self, callbacks: Callbacks) -> PatchedClient:
        """Retry until a client is connected. Raises InvalidKeyError and InvalidSettingError when a file cannot be used."""
        if self._tls is not None:
            self._tls.context()
        last_reason = ""
        while True:
            try:
                client = await self._attempt(callbacks)
            except (OSError, NatsError, TimeoutError) as error:
                self.backoff.failed(error)
                wait = self.backoff.next()
                reason = str(error) or type(error).__name__
                emit = (
                    log.debug if reason == last_reason else log.warning
                )  # one line for each outage, not for each attempt
                emit("bus.unreachable", client=self._name, error=reason, retry_s=round(wait, 1))
                last_reason = reason
                await callbacks.error(error)
                await asyncio.sleep(wait)
            else:
                self.backoff.succeeded()
                return client

    async def _attempt(self, callbacks: Callbacks) -> PatchedClient:
        options = self._options(callbacks)
        client = PatchedClient()
        client.call_key = call_key(self._settings.key())
        client.tls = self._tls
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                await client.connect(**options)
        except BaseException:
            with suppress(OSError, NatsError):
                await client._close(Client.CLOSED, do_cbs=False)
            raise
        # From now on nats-py reconnects by itself, forever, with the waits of `_next_server`.
        client.options["allow_reconnect"] = True
        client.options["max_reconnect_attempts"] = -1
        return client

    def _options(self, callbacks: Callbacks) -> dict[str, Any]:
        async def on_error(error: Exception) -> None:
            self.backoff.failed(error)
            await callbacks.error(error)

        async def on_reconnected() -> None:
            self.backoff.succeeded()
            await callbacks.reconnected()

        options: dict[str, Any] = {
            "servers": list(self._settings.servers),
            "name": self._name,
            "inbox_prefix": self._inbox_prefix,
            "nkeys_seed_str": self._settings.key().seed,
            "connect_timeout": CONNECT_TIMEOUT,
            "drain_timeout": DRAIN_TIMEOUT,
            "ping_interval": PING_INTERVAL,
            "max_outstanding_pings": MAX_PINGS,
            "allow_reconnect": False,  # during the first connect: its own loop has no jitter
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "reconnect_to_server_handler": self._next_server,
            "disconnected_cb": callbacks.disconnected,
            "reconnected_cb": on_reconnected,
            "closed_cb": callbacks.closed,
            "error_cb": on_error,
        }
        if self._settings.server_name:
            options["tls_hostname"] = self._settings.server_name
        if self._settings.token:
            options["token"] = self._settings.token
        return options

    def _next_server(self, servers: list[Server], info: dict[str, Any]) -> tuple[Server | None, float]:
        """Called by nats-py before each reconnect: the server with the fewest attempts, after a jittered wait."""
        return min(servers, key=lambda server: server.reconnects), self.backoff.next()
