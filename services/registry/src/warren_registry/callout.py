"""The auth callout: `python -m warren_registry.callout`. Plain nats-py on a loop of its own, on the account AUTH.

It answers always. A server that gets no answer lets its client wait for `authorization.timeout`; so an error of any kind,
and a decision that takes too long, is a refusal (fail closed), and a request that cannot even be parsed is the only one
without an answer: there is nobody to name in it.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from random import SystemRandom

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.dial import Uniform
from warren_bus.errors import BusError
from warren_bus.settings import BusSettings
from warren_registry.adapters.postgres.admission import CHANNEL, PostgresAdmission
from warren_registry.adapters.postgres.database import registry_store
from warren_registry.deciding import Authorizer
from warren_registry.domain.admission import AdmissionRefusedError, AuthRequest, Grant, parse_ask
from warren_registry.domain.memory import CredentialCache
from warren_registry.domain.pace import ConnectionRateLimiter
from warren_registry.settings import CalloutSettings
from warren_service.process import launch
from warren_store import Listener
from warren_trust import jwt
from warren_trust.errors import InvalidTokenError, TrustError
from warren_trust.keys import KeyKind, KeyPair, read_seed

SUBJECT = "$SYS.REQ.USER.AUTH"
QUEUE = "callout"  # several callouts share the work
ANSWER_TIMEOUT = 1.8  # s: below the 2 s after which a connecting client gives up (bus.md, c1)
AT_ONCE = 64  # decisions under way: more would only wait for the same eight connections to PostgreSQL

RETRY_LIMIT = 0.25  # s between two tries to connect

log = structlog.get_logger(__name__)


class Eager:
    """Waits of a connection that must be back before those whom it lets in: the server keeps a client that comes while
    nobody decides waiting for `authorization.timeout`. There are one or two callouts, so nothing is stormed."""

    def __init__(self, random: Uniform) -> None:
        self._random = random

    def uniform(self, low: float, high: float, /) -> float:
        return self._random.uniform(min(low, RETRY_LIMIT / 2), min(high, RETRY_LIMIT))


class Callout:
    """Answers the server's authorization requests."""

    def __init__(
        self, connection: Connection, decider: Authorizer, issuer: KeyPair, clock: Callable[[], float] = time.time
    ) -> None:
        self._connection = connection
        self._decider = decider
        self._issuer = issuer
        self._clock = clock
        self._pace = ConnectionRateLimiter()
        self._subscribed: Client | None = None
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Subscribe; again on a client that was rebuilt (after a mere reconnect nats-py does it)."""
        client = self._connection.client
        if client is not self._subscribed:
            await client.subscribe(SUBJECT, queue=QUEUE, cb=self._received)
            self._subscribed = client
        log.info("callout.listening")

    async def _received(self, message: Msg) -> None:
        task = asyncio.create_task(self._respond(message))  # nats-py would wait for one before it reads the next
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, message: Msg) -> None:
        answer = await self.answer(message.data)
        if answer is None:
            return
        try:
            await self._connection.client.publish(message.reply, answer.encode())
        except (NatsError, BusError, TrustError, OSError) as error:
            log.warning("callout.answer_lost", error=type(error).__name__)

    async def answer(self, request: bytes) -> str | None:
        """The signed answer to a request; None for what is no request at all."""
        now = self._clock()
        try:
            ask = parse_ask(jwt.decode(request), now)
        except (InvalidTokenError, AdmissionRefusedError) as error:
            log.error("callout.no_request", reason=str(error))
            return None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT), self._places:
                grant = await self._decider.decide(ask, datetime.fromtimestamp(now, UTC))
        except AdmissionRefusedError as error:
            return self._refusal(ask, str(error), now)
        except TimeoutError:
            return self._refusal(ask, "the decision took too long", now)
        except Exception as error:
            log.error("callout.failed", exc_info=error)
            return self._refusal(ask, "the callout failed", now)
        if not self._pace.take(grant.name, now):
            return self._refusal(ask, f"{grant.name} connects too often: it may again in some seconds", now)
        return self._acceptance(ask, grant, now)

    def _acceptance(self, ask: AuthRequest, grant: Grant, now: float) -> str:
        log.info("callout.granted", user=grant.name, account=grant.account)
        rights = grant.permissions.claims()
        end = None if grant.expires_at is None else int(grant.expires_at.timestamp())
        user = jwt.user_token(self._issuer, ask.user, grant.name, grant.account, rights, int(now), end)
        return jwt.response_token(self._issuer, ask.user, ask.server, int(now), user_jwt=user)

    def _refusal(self, ask: AuthRequest, reason: str, now: float) -> str:
        log.warning("callout.refused", reason=reason, nkey=ask.nkey)
        return jwt.response_token(self._issuer, ask.user, ask.server, int(now), error=reason)


async def run(bus: BusSettings, settings: CalloutSettings) -> None:
    """Answer until SIGTERM or SIGINT. PostgreSQL and NATS may come and go in any order."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    issuer = read_seed(settings.issuer_key_file, KeyKind.ACCOUNT)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(registry_store(settings.postgres_dsn, writes=False))
        decider = Authorizer(PostgresAdmission(store), CredentialCache())
        connection = await stack.enter_async_context(
            Connection(bus, name="callout", inbox_prefix=inbox("callout"), rng=Eager(SystemRandom()))
        )
        callout = Callout(connection, decider, issuer)
        connection.on_connected(callout.listen)
        listener = Listener(store, CHANNEL, on_gap=decider.reload, on_notify=decider.told)
        following = asyncio.create_task(listener.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            for task in (following, stopping):
                task.cancel()
            await asyncio.gather(following, stopping, return_exceptions=True)


if __name__ == "__main__":
    raise SystemExit(launch("callout", CalloutSettings, run))
