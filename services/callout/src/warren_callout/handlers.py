"""Answer nats-server's authorization requests.

Without an answer the server makes its client wait for `authorization.timeout`, and ends the connection (fail closed). So an error of
any kind is a refusal. No answer gets a request that cannot be parsed, since it does not say to whom the answer would be addressed, and
one that waited too long: more connect at once than the callout serves, and "refused" would be wrong.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from warren_bus.connection import Connection
from warren_bus.errors import BusError
from warren_bus.headers import header
from warren_callout.authorizer import Authorizer
from warren_callout.domain.admission import PROBE, AdmissionRefusedError, AuthRequest, Grant, parse_request
from warren_process.background import BackgroundTasks
from warren_process.token_bucket import RateLimiter
from warren_service.limited_log import LimitedLog
from warren_trust import jwt
from warren_trust.callout_box import HEADER_SERVER_KEY, CalloutBox
from warren_trust.errors import InvalidTokenError, TrustError
from warren_trust.keys import KeyPair

SUBJECT = "$SYS.REQ.USER.AUTH"
QUEUE = "callout"  # several callouts share the work
# s, below `authorization.timeout` and what a client waits (`dial.CONNECT_TIMEOUT`). A decision that is later than that is not made:
# the server ends the connection with "Authentication Timeout", which an agent takes for an overloaded server and not for a refusal.
ANSWER_TIMEOUT = 4.0
MAX_CONCURRENT = 64  # decisions under way: more would only wait for the same eight connections to PostgreSQL

# The account's limit of connections is shared by all keys, and one key must not use it up. With the registry's sweep, which
# ends the connections of a user with more than 64, this bounds how many connections one key can have at any time.
CONNECT_BURST = 32.0  # connections at once; an agent needs one, and two for a moment
CONNECT_RATE = 0.5  # connections a second after that: an agent that is refused backs off further by itself
# Connections to enrol live a minute (`admission.ENROLLING`), so one token has at most 248 of the account's 15,000.
JOIN_BURST, JOIN_RATE = 128.0, 2.0
# Refused credentials of one address, after which unknown ones wait in a lane of their own. Valid keys are never refused for it:
# a branch of thousands may be behind one address.
REFUSED_BURST, REFUSED_RATE = 50.0, 2.0
MAX_ADDRESSES = 16_384

log = structlog.get_logger(__name__)


class Callout:
    """Answers authorization requests on a connection to the account AUTH."""

    def __init__(
        self, connection: Connection, authorizer: Authorizer, issuer: KeyPair, clock: Callable[[], float] = time.time
    ) -> None:
        self._connection = connection
        self._authorizer = authorizer
        self._issuer = issuer
        self._box = CalloutBox(issuer)
        self._clock = clock
        self._limiter = RateLimiter(CONNECT_BURST, CONNECT_RATE)
        self._joins = RateLimiter(JOIN_BURST, JOIN_RATE)
        self._refused = RateLimiter(REFUSED_BURST, REFUSED_RATE, MAX_ADDRESSES)
        self._invalid = LimitedLog(log.error, "callout.invalid_request")
        self._refusals = LimitedLog(log.warning, "callout.refused")
        self._overloads = LimitedLog(log.warning, "callout.overloaded")
        self._grants = LimitedLog(log.info, "callout.granted")
        self._subscribed: Client | None = None
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._answers = BackgroundTasks()

    async def listen(self) -> None:
        """Subscribe, and again on a client that was rebuilt (after a mere reconnect nats-py does it)."""
        client = self._connection.client
        if client is not self._subscribed:
            await client.subscribe(SUBJECT, queue=QUEUE, cb=self._received)
            self._subscribed = client
        log.info("callout.listening")

    async def _received(self, message: Msg) -> None:
        self._answers.spawn(self._respond(message))  # nats-py would await one before it reads the next

    async def _respond(self, message: Msg) -> None:
        server = header(message.headers, HEADER_SERVER_KEY)
        try:
            answer = await self.answer(self._box.open(message.data, server))
            if answer is None:
                return
            await self._connection.client.publish(message.reply, self._box.seal(answer.encode(), server))
        except InvalidTokenError as error:
            self._invalid.write("", error=str(error))
        except (NatsError, BusError, TrustError, OSError) as error:
            log.warning("callout.answer_lost", error=type(error).__name__)

    async def answer(self, data: bytes) -> str | None:
        """The signed response to a request; None for what gets no answer."""
        now = self._clock()
        try:
            request = parse_request(jwt.decode(data), now)
        except (InvalidTokenError, AdmissionRefusedError) as error:
            self._invalid.write("", error=str(error))
            return None
        try:
            suspected = not self._refused.has(request.address, now)
            async with asyncio.timeout(ANSWER_TIMEOUT), self._slots:
                grant = await self._authorizer.decide(request, datetime.fromtimestamp(now, UTC), suspected=suspected)
        except AdmissionRefusedError as error:
            self._refused.drain(request.address, now)
            return self._refusal(request, str(error), now)
        except TimeoutError:
            self._overloads.write("", waited_s=ANSWER_TIMEOUT, error="more connect at once than the callout serves")
            return None
        except Exception as error:
            log.error("callout.failed", exc_info=error)
            return self._refusal(request, "the callout failed", now)
        if grant.join_token and not self._joins.take(grant.join_token, now):
            return self._refusal(
                request, f"the join token {grant.join_token} opens too many connections: retry later", now
            )
        if not self._limiter.take(grant.name, now):
            return self._refusal(request, f"{grant.name} connects too often: retry in some seconds", now)
        return self._acceptance(request, grant, now)

    def _acceptance(self, request: AuthRequest, grant: Grant, now: float) -> str:
        if grant.name == PROBE:
            log.debug("callout.probed")
        else:
            self._grants.write(grant.name, user=grant.name, account=grant.account)
        permissions = grant.permissions.claims()
        end = None if grant.expires_at is None else int(grant.expires_at.timestamp())
        user = jwt.user_token(self._issuer, request.user, grant.name, grant.account, permissions, int(now), end)
        return jwt.response_token(self._issuer, request.user, request.server, int(now), user_jwt=user)

    def _refusal(self, request: AuthRequest, reason: str, now: float) -> str:
        self._refusals.write(request.address, error=reason, nkey=request.nkey, address=request.address)
        return jwt.response_token(self._issuer, request.user, request.server, int(now), error=reason)
