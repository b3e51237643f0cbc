"""The waits between two attempts to connect: they depend on why the last one failed, and spread a fleet that returns."""

from typing import Protocol

from warren_process.backoff import pause_s

UNREACHABLE_LIMIT = 10.0  # s, the longest wait while no server answers
# s, the longest wait while the server answers "Authorization Violation". A peer that is admitted again is back within 15 s; a
# refused fleet of 10,000 makes 900 attempts a second, evenly spread (docs/bus.md, c19).
REFUSED_LIMIT = 15.0
FIRST_WAIT = 0.2  # s
# s over which the agents of a fleet return to a server that did not answer at once: ten thousand TLS handshakes in the same second
# would time out and be repeated. An agent whose connection was merely closed (its tags changed) returns at its first attempt.
RETURN_SPREAD = 5.0


class Uniform(Protocol):
    """A source of jitter; tests pass a seeded one."""

    def uniform(self, low: float, high: float, /) -> float: ...


class ConnectBackoff:
    """Exponential waits with jitter; the limit depends on whether the server refuses or is unreachable.

    A refusal costs the callout a decision, so a refused client waits for at least half of the limit. The second attempt comes at a
    random moment within `return_spread_s`, if that is not 0.
    """

    def __init__(self, rng: Uniform, return_spread_s: float = 0.0) -> None:
        self._rng = rng
        self._return_spread_s = return_spread_s
        self._tries = 0
        self._refused = False

    def failed(self, error: BaseException) -> None:
        """Record why the last attempt failed."""
        self._refused = "authorization" in str(error).lower()

    def succeeded(self) -> None:
        self._tries = 0
        self._refused = False

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        limit, least = (REFUSED_LIMIT, 1 / 2) if self._refused else (UNREACHABLE_LIMIT, 1 / 4)
        shortest, longest = (
            pause_s(self._tries, fraction, first_s=FIRST_WAIT, limit_s=limit, least=least) for fraction in (0.0, 1.0)
        )
        self._tries += 1
        if self._tries == 2 and not self._refused:
            longest = max(longest, self._return_spread_s)
        return self._rng.uniform(shortest, longest)
