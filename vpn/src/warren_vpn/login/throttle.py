"""Failed logins: delayed by more each time, and limited by source address and by user. Pure: the caller passes the clock.

An attacker has many addresses or many names. So failures count for both: one address cannot try many users, and many addresses
cannot try one user. An IPv6 site has 65,536 networks (RFC 6177), which together count as a few addresses. The rule for users
alone would let anyone lock a user out; a user who has logged in from an address before is therefore counted there by itself,
whatever others fail elsewhere.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from warren_process.backoff import pause_s
from warren_process.token_bucket import RateLimiter

Address = IPv4Address | IPv6Address
ADDRESSES_OF_SITE = 10
"""An IPv6 /48 may fail as often as so many addresses."""
MAX_TRACKED = 32_768  # names and addresses: 20 MB at most; the least recently seen is forgotten


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """Failures in a row that are verified at all, and how they are delayed. Times are in seconds."""

    per_address: int = 20
    """Failures of one IPv4 address or IPv6 /64 at once: as many users behind one NAT may mistype."""
    address_refill_s: float = 30.0
    """Until one more is allowed."""
    per_user: int = 10
    user_refill_s: float = 60.0
    first_delay_s: float = 1.0
    """Of the response to the first failure; doubled with each further one."""
    longest_delay_s: float = 8.0
    """Below the engine's limit for a verdict, and below the first retransmissions of most clients."""
    forget_s: float = 900.0
    """Without a failure for so long, the delay begins again."""


class Refusal(Enum):
    """Why an attempt is not even verified. The value is the audit's reason."""

    ADDRESS = "limit exceeded: failed logins from this address"
    USER = "limit exceeded: failed logins of this user"


@dataclass(slots=True)
class _Failures:
    count: int = 0
    at: float = 0.0


class LoginThrottle:
    """See the module. Names are compared without case."""

    def __init__(self, limits: LoginLimits | None = None) -> None:
        self._limits = limits or LoginLimits()
        own = self._limits
        self._addresses = RateLimiter(own.per_address, 1 / own.address_refill_s, MAX_TRACKED)
        self._sites = RateLimiter(
            ADDRESSES_OF_SITE * own.per_address, ADDRESSES_OF_SITE / own.address_refill_s, MAX_TRACKED
        )
        self._users = RateLimiter(own.per_user, 1 / own.user_refill_s, MAX_TRACKED)
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def admit(self, user: str, address: Address, now: float) -> Refusal | None:
        """Count an attempt as a failure until it has succeeded, so that many at once are limited too; None: it may be verified."""
        taken: list[tuple[RateLimiter, str]] = []
        for limiter, name in self._counted(user, address):
            if not limiter.take(name, now):
                for before, its_name in taken:
                    before.give_back(its_name, now)
                return Refusal.USER if limiter is self._users else Refusal.ADDRESS
            taken.append((limiter, name))
        return None

    def withdraw(self, user: str, address: Address, now: float) -> None:
        """Forget an attempt that was admitted, but not verified."""
        for limiter, name in self._counted(user, address):
            limiter.give_back(name, now)

    def failed(self, user: str, address: Address, now: float) -> float:
        """Return the seconds by which the response to this failure is delayed."""
        return max(self._delay(self._user_key(user, address), now), self._delay(_prefix(address), now))

    def succeeded(self, user: str, address: Address, now: float) -> None:
        """Note that the user has logged in from this address: the attempt was not a failure."""
        pair = (user.lower(), _prefix(address))
        self.withdraw(user, address, now)  # as `admit` counted it, before the address was known
        self._failures.pop(self._user_key(user, address), None)
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > MAX_TRACKED:
            self._known.popitem(last=False)

    def _counted(self, user: str, address: Address) -> list[tuple[RateLimiter, str]]:
        """What an attempt counts for: its address, its site, its user."""
        counted = [(self._addresses, _prefix(address))]
        if isinstance(address, IPv6Address):
            counted.append((self._sites, str(IPv6Network((address, 48), strict=False))))
        return [*counted, (self._users, self._user_key(user, address))]

    def _user_key(self, user: str, address: Address) -> str:
        name, prefix = user.lower(), _prefix(address)
        return f"user {name} at {prefix}" if (name, prefix) in self._known else f"user {name}"

    def _delay(self, key: str, now: float) -> float:
        limits = self._limits
        failures = self._failures.pop(key, None) or _Failures()
        if now - failures.at > limits.forget_s:
            failures.count = 0
        self._failures[key] = failures
        delay = pause_s(failures.count, 1.0, first_s=limits.first_delay_s, limit_s=limits.longest_delay_s)
        failures.count, failures.at = failures.count + 1, now
        if len(self._failures) > MAX_TRACKED:
            self._failures.popitem(last=False)
        return delay


def _prefix(address: Address) -> str:
    return str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)
