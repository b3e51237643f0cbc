"""Authenticate bearer tokens, which the registry stores by their SHA-256 only.

A successful authentication is cached for CACHE_SECONDS, so a removed token is accepted at most that much longer; refusals and
failures are not cached. While the registry is unavailable, only cached tokens are accepted. A token that was valid within
MEMORY_SECONDS may read one thing more: the details of /api/health, which say why the registry is unavailable.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from warren_api.errors import TooManyFailedTokensError
from warren_api.ports import Bus
from warren_contracts.authentication import Authenticate, Authenticated
from warren_contracts.commands import OperatorTokenList, Page, Role
from warren_contracts.problems import ForbiddenError, NotFoundError, UnauthorizedError
from warren_contracts.verbs import includes
from warren_process.token_bucket import RateLimiter

CACHE_SECONDS = 5.0
CACHE_ENTRIES = 1_024
MEMORY_SECONDS = 900.0
UNKNOWN_BURST = 20.0  # unknown tokens of one address at once; a mistyped one comes a few times
UNKNOWN_RATE = 1.0  # a second after that: each is a request to the registry and its database
MAX_ADDRESSES = 4_096  # that are tracked
FILTER_SECONDS = 2.0  # how long the list of existing tokens is used: a new one is accepted after that at the latest
FILTER_PAGE = 200  # tokens of one request
MAX_TOKEN = 512  # characters; longer ones are refused without hashing


class Authenticator:
    """Authenticates tokens by the registry, and caches the results briefly."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Authenticated]] = OrderedDict()
        self._failures = RateLimiter(UNKNOWN_BURST, UNKNOWN_RATE, MAX_ADDRESSES)
        self._existing: tuple[float, frozenset[str]] = (float("-inf"), frozenset())
        self._listing = asyncio.Lock()

    async def authenticate(self, authorization: str | None, address: str = "") -> Authenticated:
        """The principal of an `Authorization` header; raises UnauthorizedError, or UnavailableError while the registry is unavailable.

        After too many unknown tokens from one `address`, further ones are compared with a list of the existing ones first, by the
        beginning of their hashes. Only those that are not on it are refused without a request to the registry
        (TooManyFailedTokensError): nobody is locked out by the wrong tokens of others, such as of those behind the same proxy.
        """
        return await self.check(digest_of(authorization), address)

    async def check(self, digest: str, address: str = "") -> Authenticated:
        """The same for the SHA-256 of a token, in hexadecimal."""
        held = self._known.get(digest)
        if held is not None and held[0] + CACHE_SECONDS > self._clock():
            return held[1]
        suspected = held is None and not self._failures.has(address, self._clock())
        if suspected and digest[:8] not in await self._existing_prefixes():
            raise TooManyFailedTokensError
        try:
            principal = await self._bus.call(
                "registry", "authenticate", Authenticate(token_sha256=digest), Authenticated
            )
        except (NotFoundError, UnauthorizedError):
            self._known.pop(digest, None)
            self._failures.drain(address, self._clock())
            raise UnauthorizedError from None
        self._known.pop(digest, None)  # the newest entry is last
        self._known[digest] = (self._clock(), principal)
        while len(self._known) > CACHE_ENTRIES:
            self._known.popitem(last=False)
        return principal

    async def _existing_prefixes(self) -> frozenset[str]:
        """The beginnings of the hashes of all tokens; one request for all that wait for it."""
        async with self._listing:
            if self._existing[0] + FILTER_SECONDS <= self._clock():
                found: set[str] = set()
                after: str | None = ""
                while after is not None:
                    page = await self._bus.call(
                        "registry", "operator_tokens", Page(after=after, limit=FILTER_PAGE), OperatorTokenList
                    )
                    found |= {token.sha256_prefix for token in page.tokens}
                    after = page.next_after
                self._existing = (self._clock(), frozenset(found))
            return self._existing[1]

    def was_known_for_all(self, digest: str) -> bool:
        """Whether the token of this SHA-256 was valid recently, for the whole fleet. Only for the details of a health reply."""
        held = self._known.get(digest)
        return held is not None and held[0] + MEMORY_SECONDS > self._clock() and held[1].scope is None


def digest_of(authorization: str | None) -> str:
    """The SHA-256 of the token in an `Authorization` header, in hexadecimal. Raises UnauthorizedError."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthorizedError("send `Authorization: Bearer <token>` with a token of this fleet")
    return token_digest(token)


def token_digest(token: str) -> str:
    """The SHA-256 of a bearer token, in hexadecimal. Raises UnauthorizedError for a text that cannot be one."""
    token = token.strip()
    if not token or len(token) > MAX_TOKEN:
        raise UnauthorizedError("send `Authorization: Bearer <token>` with a token of this fleet")
    return sha256(token.encode()).hexdigest()


def require(principal: Authenticated, role: Role) -> None:
    """Raise ForbiddenError unless the principal has at least this role."""
    if not includes(principal.role, role):
        raise ForbiddenError(
            f"this requires the role {role.value}; the token of {principal.name} has {principal.role.value}"
        )
