"""Who calls: bearer tokens, known to the registry by their SHA-256 alone.

An answer is remembered for CACHE_SECONDS, so a token that was removed works that much longer at most; refusals and
failures are never remembered. While the registry is unavailable, nobody gets in whose answer is not fresh. That a token was
good within MEMORY_SECONDS opens one thing alone: the words of /api/health, which say why the registry cannot be asked.
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
WRONG_BURST = 20.0  # wrong tokens of one address at once; a mistyped one comes a few times
WRONG_RATE = 1.0  # a second after that: each is a question to the registry and its database
WRONG_ADDRESSES = 4_096  # that are remembered
MAX_TOKEN = 512  # characters; longer ones are none of ours and are not even hashed

_RANK = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}


class Authenticator:
    """Asks the registry whose token it is, and remembers it for a moment."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Authenticated]] = OrderedDict()
        self._failures = RateLimiter(WRONG_BURST, WRONG_RATE, WRONG_ADDRESSES)

    async def authenticate(self, authorization: str | None, address: str = "") -> Authenticated:
        """Who sent this `Authorization` header; raises UnauthorizedError, or Unavailable while the registry is unavailable.

        From an `address` that sent too many wrong tokens nobody is asked about unknown ones any more (TooManyFailedTokensError); a
        token that was good a short while ago is: whoever shares the address is not locked out.
        """
        digest = _digest_of(authorization)
        held = self._known.get(digest)
        if held is not None and held[0] + CACHE_SECONDS > self._clock():
            return held[1]
        if held is None and not self._failures.has(address, self._clock()):
            raise TooManyFailedTokensError
        try:
            who = await self._bus.call("registry", "authenticate", Authenticate(token_sha256=digest), Authenticated)
        except (NotFoundError, UnauthorizedError):
            self._known.pop(digest, None)
            self._failures.drain(address, self._clock())
            raise UnauthorizedError from None
        self._known.pop(digest, None)  # the newest entry stands last
        self._known[digest] = (self._clock(), who)
        while len(self._known) > CACHE_ENTRIES:
            self._known.popitem(last=False)
        return who

    def was_known(self, authorization: str) -> bool:
        """Whether this token was good a short while ago. Opens nothing but the words of a health reply."""
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


def require(who: Authenticated, role: Role) -> None:
    """Raises ForbiddenError when the caller's role does not reach `role`."""
    if _RANK[who.role] < _RANK[role]:
        raise ForbiddenError(f"this needs the role {role.value}; the token of {who.name} has {who.role.value}")
