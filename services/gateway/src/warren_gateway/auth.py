"""Who calls: bearer tokens, known to the registry by their SHA-256 alone.

An answer is remembered for CACHE_SECONDS, so a token that was removed works that much longer at most; refusals and
failures are never remembered. While the registry is away, nobody gets in whose answer is not fresh. That a token was
good within MEMORY_SECONDS opens one thing alone: the words of /api/health, which say why the registry cannot be asked.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

from warren_contracts.commands import Authenticate, Authenticated, Role
from warren_contracts.problems import Forbidden, NotFound, Unauthorised
from warren_gateway.ports import Bus

CACHE_SECONDS = 5.0
CACHE_ENTRIES = 1_024
MEMORY_SECONDS = 900.0
MAX_TOKEN = 512  # characters; longer ones are none of ours and are not even hashed

_RANK = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}


class Authenticator:
    """Asks the registry whose token it is, and remembers it for a moment."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Authenticated]] = OrderedDict()

    async def authenticate(self, authorization: str | None) -> Authenticated:
        """Who sent this `Authorization` header; raises Unauthorised, or Unavailable while the registry is away."""
        digest = _digest_of(authorization)
        held = self._known.get(digest)
        if held is not None and held[0] + CACHE_SECONDS > self._clock():
            return held[1]
        try:
            who = await self._bus.call("registry", "authenticate", Authenticate(token_sha256=digest), Authenticated)
        except (NotFound, Unauthorised):
            self._known.pop(digest, None)
            raise Unauthorised from None
        self._known.pop(digest, None)  # the newest entry stands last
        self._known[digest] = (self._clock(), who)
        while len(self._known) > CACHE_ENTRIES:
            self._known.popitem(last=False)
        return who

    def was_known(self, authorization: str) -> bool:
        """Whether this token was good a short while ago. Opens nothing but the words of a health reply."""
        try:
            held = self._known.get(_digest_of(authorization))
        except Unauthorised:
            return False
        return held is not None and held[0] + MEMORY_SECONDS > self._clock()


def _digest_of(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
        raise Unauthorised("send `Authorization: Bearer <token>` with a token of this fleet")
    return sha256(token.encode()).hexdigest()


def require(who: Authenticated, role: Role) -> None:
    """Raises Forbidden when the caller's role does not reach `role`."""
    if _RANK[who.role] < _RANK[role]:
        raise Forbidden(f"this needs the role {role.value}; the token of {who.name} has {who.role.value}")
