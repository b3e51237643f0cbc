"""Authenticate bearer tokens, which the registry stores by their SHA-256 only.

A successful authentication is cached for CACHE_SECONDS, so a removed token is accepted at most that much longer; refusals and
failures are not cached. While the registry is unavailable, only cached tokens are accepted. A token that was valid within
MEMORY_SECONDS may read one thing more: the details of /api/health, which say why the registry is unavailable.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from warren_api.errors import TooManyFailedTokensError
from warren_api.ports import Bus
from warren_contracts.commands import Authenticate, Authenticated, Role
from warren_contracts.problems import ForbiddenError, NotFoundError, UnauthorizedError
from warren_service.token_bucket import RateLimiter

CACHE_SECONDS = 5.0
CACHE_ENTRIES = 1_024
MEMORY_SECONDS = 900.0
UNKNOWN_BURST = 20.0  # unknown tokens of one address at once; a mistyped one comes a few times
UNKNOWN_RATE = 1.0  # a second after that: each is a request to the registry and its database
MAX_ADDRESSES = 4_096  # that are tracked
MAX_TOKEN = 512  # characters; longer ones are refused without hashing

_RANK = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}


class Authenticator:
    """Authenticates tokens by the registry, and caches the results briefly."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Authenticated]] = OrderedDict()
        self._failures = RateLimiter(UNKNOWN_BURST, UNKNOWN_RATE, MAX_ADDRESSES)

    async def authenticate(self, authorization: str | None, address: str = "") -> Authenticated:
        """The principal of an `Authorization` header; raises UnauthorizedError, or UnavailableError while the registry is unavailable.

        After too many unknown tokens from one `address`, further unknown ones are refused without a request to the registry
        (TooManyFailedTokensError); recently valid ones are still accepted, so other users of the address are not locked out.
        """
        digest = _digest_of(authorization)
        held = self._known.get(digest)
        if held is not None and held[0] + CACHE_SECONDS > self._clock():
            return held[1]
        if held is None and not self._failures.has(address, self._clock()):
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

    def was_known(self, authorization: str) -> bool:
        """Whether this token was valid recently. Only for the details of a health reply."""
        try:
            held = self._known.get(_digest_of(authorization))
        except UnauthorizedError:
            return False
        return held is not None and held[0] + MEMORY_SECONDS > self._clock()


def _digest_of(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
        raise UnauthorizedError("send `Authorization: Bearer <token>` with a token of this fleet")
    return sha256(token.encode()).hexdigest()


def require(principal: Authenticated, role: Role) -> None:
    """Raise ForbiddenError unless the principal has at least this role."""
    if _RANK[principal.role] < _RANK[role]:
        raise ForbiddenError(
            f"this requires the role {role.value}; the token of {principal.name} has {principal.role.value}"
        )
