"""Making a nats-py client that is really connected, and the waits between tries.

nats-py 2.16 has five habits that are corrected here (docs/bus.md, pitfalls c1, c2, c19 to c21): `connect()` can return a client
that is not connected and never will be; a reconnect waits a fixed time, so that a fleet returns as one wave; a client that was
refused tries again forever at the same pace; `flush()` overtakes what it should flush; and `tls://` connects in clear.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, Protocol

import structlog
from nats.aio.client import Client, Server
from nats.errors import Error as NatsError

from warren_bus.headers import FORGED, HEADER_REQUEST_INFO, is_block, is_genuine, names_a_caller
from warren_bus.settings import BusSettings
from warren_contracts.backoff import pause_s

log = structlog.get_logger("warren_bus")

CONNECT_TIMEOUT = 5  # s for each step of the handshake; the callout answers within 2 s (docs/bus.md, c1)
DIAL_TIMEOUT = 15.0  # s for one whole try
AWAY_LIMIT = 10.0  # s, the longest wait while servers do not answer
# s, the longest wait while the server answers "Authorization Violation". Whoever is let in again is back within 15 s; a whole
# fleet of 10,000 that is refused knocks 900 times a second, evenly (docs/bus.md, c19).
REFUSED_LIMIT = 15.0
FIRST_WAIT = 0.2  # s
DRAIN_TIMEOUT = 5  # s to finish what is under way at a clean stop
PING_INTERVAL = 20  # s: a silent server is noticed within a minute
MAX_PINGS = 2


PING = b"PING\r\n"
_SPACE = " \t\n\r\x0b\x0c"  # what bytes.strip takes away


class PatchedClient(Client):
    """nats-py's client, which leaves no socket behind, flushes what it says that it flushes, reads headers at a quarter of
    the cost, outlives malformed ones, and believes the server's word on a caller only where the server wrote it."""

    async def _connect_to_server(self, s: Any) -> None:
        """Before each try: nats-py forgets the open socket of a try that the server refused.

        And after it: a client that is closed in the very moment in which it has reconnected would go on with that socket,
        because the cancellation gets lost (`wait_for` of Python 3.11 returns what is there).
        """
        self._close_socket()
        self._pending = [command for command in self._pending if command != PING]  # their answers are awaited no more
        await super()._connect_to_server(s)
        if self.is_closed:
            self._close_socket()
            raise asyncio.CancelledError

    def _connect_command(self) -> bytes:
        """What proves who we are, and a join token with it: where the URL says `tls://`, they leave by TLS only. (nats-py
        starts TLS when the server asks for it, so that whoever is on the way need only take that word out.)"""
        server, encrypted = (
            self._current_server,
            self._server_info.get("tls_required", False),
        )  # the handshake is over by now
        if server is not None and server.uri.scheme == "tls" and not encrypted:
            raise NatsError("nats: the server offers no TLS, and its URL begins with tls://")
        return super()._connect_command()

    def _close_socket(self) -> None:
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]  # nats-py leaves it without annotations

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Behind what is pending. nats-py writes the PING ahead of it, so that `flush` returned before the server had the
        subscription that was to be flushed, and the first request to it found no responder (docs/bus.md, c20)."""
        if not self.is_connected:
            await super()._send_ping(future)
            return
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING)
        await self._flush_pending()

    async def _process_pong(self) -> None:
        """Also one that nobody waits for any more, after a `flush` that took too long: nats-py would set its result, and the
        error ends its reader without a word."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        """What cannot be read, or names a caller as the server does not, is marked with a caller that nobody believes. (An
        error here would end nats-py's reader without a word: the client would be deaf until its pings are missed.)"""
        if not headers:
            return None
        try:
            parsed: dict[str, str] = await super()._process_headers(headers) or {} if is_block(headers) else {}
        except (ValueError, LookupError):
            return {HEADER_REQUEST_INFO: FORGED}
        if not is_block(headers) or (names_a_caller(headers) and not is_genuine(headers)):
            kept = {name: value for name, value in parsed.items() if name.lower() != HEADER_REQUEST_INFO.lower()}
            return {**kept, HEADER_REQUEST_INFO: FORGED}
        return parsed or None

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """Same results (names are ASCII without white space, others are skipped; values are stripped UTF-8), less work:
        in a fan-out it is the largest part of what an agent pays."""
        headers: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            name = name.strip(_SPACE)
            if colon and name.isascii() and (not name or name.split() == [name]):
                headers[name] = value.strip(_SPACE)
        return headers


class Uniform(Protocol):
    """Where jitter comes from; tests give a seeded one."""

    def uniform(self, low: float, high: float, /) -> float: ...


class ConnectBackoff:
    """Exponential waits with jitter; their limit depends on whether the server refuses or is unavailable.

    A refusal costs the callout a decision, so that a refused client waits for at least half of the limit.
    """

    def __init__(self, rng: Uniform) -> None:
        self._rng = rng
        self._tries = 0
        self._refused = False

    def failed(self, error: BaseException) -> None:
        """Remember why the last try failed."""
        self._refused = "authorization" in str(error).lower()

    def succeeded(self) -> None:
        self._tries = 0
        self._refused = False

    def next(self) -> float:
        """How long to wait before the next try, in seconds."""
        limit, least = (REFUSED_LIMIT, 1 / 2) if self._refused else (AWAY_LIMIT, 1 / 4)
        shortest, longest = (
            pause_s(self._tries, fraction, first_s=FIRST_WAIT, limit_s=limit, least=least) for fraction in (0.0, 1.0)
        )
        self._tries += 1
        return self._rng.uniform(shortest, longest)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the owner of a client is told."""

    disconnected: Callable[[], Awaitable[None]]
    reconnected: Callable[[], Awaitable[None]]
    closed: Callable[[], Awaitable[None]]
    error: Callable[[Exception], Awaitable[None]]


class Dialer:
    """Dials until a client is connected. One dialer belongs to one owner."""

    def __init__(self, settings: BusSettings, name: str, inbox_prefix: str, rng: Uniform | None = None) -> None:
        self._settings = settings
        self._name = name
        self._inbox_prefix = inbox_prefix
        self.backoff = ConnectBackoff(rng or SystemRandom())

    async def dial(self, callbacks: Callbacks) -> Client:
        """A connected client, however long it takes. Raises InvalidKeyError when the key file cannot be used."""
        told = ""
        while True:
            try:
                client = await self._try_once(callbacks)
            except (OSError, NatsError, TimeoutError) as error:
                self.backoff.failed(error)
                wait = self.backoff.next()
                reason = str(error) or type(error).__name__
                tell = log.debug if reason == told else log.warning  # one line for each absence, not for each try
                tell("bus.unreachable", client=self._name, reason=reason, retry_s=round(wait, 1))
                told = reason
                await callbacks.error(error)
                await asyncio.sleep(wait)
            else:
                self.backoff.succeeded()
                return client

    async def _try_once(self, callbacks: Callbacks) -> Client:
        options = self._options(callbacks)
        client = PatchedClient()
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                await client.connect(**options)
            if not client.is_connected:
                raise NatsError("nats: connect returned without being connected")
        except BaseException:
            with suppress(OSError, NatsError):
                await client._close(Client.CLOSED, do_cbs=False)
            raise
        # From here on nats-py reconnects by itself, forever, with the waits of `_next_server`.
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
        if self._settings.token:
            options["token"] = self._settings.token
        return options

    def _next_server(self, servers: list[Server], info: dict[str, Any]) -> tuple[Server | None, float]:
        """nats-py asks before each try to reconnect: the least tried server, after a jittered wait."""
        return min(servers, key=lambda server: server.reconnects), self.backoff.next()
