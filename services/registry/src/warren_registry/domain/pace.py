"""How fast one key may connect: the account's limit of connections is everybody's, and one key must not use it up.

A token bucket a name. With the registry's sweep, which ends the connections of whoever holds more than MAX_CONNECTIONS,
it bounds how many connections one key can hold at any time.
"""

from collections import OrderedDict

BURST = 32.0  # connections at once; an agent needs one, and two for a moment
RATE = 0.5  # connections a second after that: an agent that is refused waits longer by itself
MAX_CONNECTIONS = 64  # that one key may hold when the sweep looks: BURST, and what RATE lets in within a minute
NAMES = 32_768  # that are remembered: more than the server accepts connections; the longest unseen is forgotten


class ConnectionRateLimiter:
    """Who may connect now. The clock is the caller's, in seconds."""

    def __init__(self, burst: float = BURST, rate: float = RATE) -> None:
        self._burst = burst
        self._rate = rate
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was

    def take(self, name: str, now: float) -> bool:
        """Whether `name` may connect once more."""
        left, at = self._left.pop(name, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._rate)
        allowed = left >= 1.0
        self._left[name] = (left - 1.0 if allowed else left, now)
        if len(self._left) > NAMES:
            self._left.popitem(last=False)
        return allowed
