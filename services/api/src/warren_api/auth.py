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

CACHE_SECONDS = 5.0
CACHE_ENTRIES = 1_024
MEMORY_SECONDS = 900.0
WRONG_BURST = 20.0  # wrong tokens of one address at once; a mistyped one comes a few times
WRONG_RATE = 1.0  # a second after that: each is a question to the registry and its database
WRONG_ADDRESSES = 4_096  # that are remembered
MAX_TOKEN = 512  # characters; longer ones are none of ours and are not even hashed

_RANK = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}


class FailedAuthLimiter:
    """How many wrong tokens an address may still send: a token bucket each. The clock is the caller's, in seconds."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def has(self, address: str, now: float) -> bool:
        """Whether one more may come."""
        return self._now_left(address, now) >= 1.0

    def take(self, address: str, now: float) -> None:
        """One came."""
        self._left[address] = (max(0.0, self._now_left(address, now) - 1.0), now)
        self._left.move_to_end(address)
        if len(self._left) > WRONG_ADDRESSES:
            self._left.popitem(last=False)

    def _now_left(self, address: str, now: float) -> float:
        left, at = self._left.get(address, (WRONG_BURST, now))
        return min(WRONG_BURST, left + max(0.0, now - at) * WRONG_RATE)


class Authenticator:
    """Asks the registry whose token it is, and remembers it for a moment."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Authenticated]] = OrderedDict()
        self._wrong = FailedAuthLimiter()

    async def authenticate(self, authorization: str | None, address: str = "") -> Authenticated:
        """Who sent this `Authorization` header; raises UnauthorizedError, or Unavailable while the registry is unavailable.

        From an `address` that sent too many wrong tokens nobody is asked about unknown ones any more (TooManyFailedTokensError); a
        token that was good a short while ago is: whoever shares the address is not locked out.
        """
        digest = _digest_of(authorization)
        held = self._known.get(digest)
        if held is not None and held[0] + CACHE_SECONDS > self._clock():
            return held[1]
        if held is None and not self._wrong.has(address, self._clock()):
            raise TooManyFailedTokensError
        try:
            who = await self._bus.call("registry", "authenticate", Authenticate(token_sha256=digest), Authenticated)
        except (NotFoundError, UnauthorizedError):
            self._known.pop(digest, None)
            self._wrong.take(address, self._clock())
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
