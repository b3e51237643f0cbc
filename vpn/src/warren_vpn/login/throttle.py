"""Failed logins: delayed by more each time, and limited by source address and by user. Pure: the caller passes the clock.

An attacker has many addresses or many names. So failures count for both: one address cannot try many users, and many addresses
cannot try one user. The second rule alone would let anyone lock a user out; a user who has logged in from an address before is
therefore counted there by itself, whatever others fail elsewhere.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from warren_contracts.backoff import pause_s
from warren_contracts.token_bucket import RateLimiter

Address = IPv4Address | IPv6Address
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
        self._users = RateLimiter(own.per_user, 1 / own.user_refill_s, MAX_TRACKED)
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def admit(self, user: str, address: Address, now: float) -> Refusal | None:
        """Count an attempt as a failure until it has succeeded, so that many at once are limited too; None: it may be verified."""
        prefix, key = _prefix(address), self._user_key(user, address)
        if not self._addresses.take(prefix, now):
            return Refusal.ADDRESS
        if not self._users.take(key, now):
            self._addresses.give_back(prefix, now)
            return Refusal.USER
        return None

    def withdraw(self, user: str, address: Address, now: float) -> None:
        """Forget an attempt that was admitted, but not verified."""
        self._addresses.give_back(_prefix(address), now)
        self._users.give_back(self._user_key(user, address), now)

    def failed(self, user: str, address: Address, now: float) -> float:
        """Return the seconds by which the response to this failure is delayed."""
        return max(self._delay(self._user_key(user, address), now), self._delay(_prefix(address), now))

    def succeeded(self, user: str, address: Address, now: float) -> None:
        """Note that the user has logged in from this address: the attempt was not a failure."""
        pair = (user.lower(), _prefix(address))
        key = self._user_key(user, address)  # as `admit` counted it, before the address was known
        self._addresses.give_back(pair[1], now)
        self._users.give_back(key, now)
        self._failures.pop(key, None)
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > MAX_TRACKED:
            self._known.popitem(last=False)

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
