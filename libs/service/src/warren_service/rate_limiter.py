"""A token bucket for each name. Pure: the caller passes the clock."""

from collections import OrderedDict

MAX_NAMES = 32_768  # that are tracked: more than nats-server accepts connections; the least recently seen is dropped


class RateLimiter:
    """Allow `burst` events of a name at once, and `rate` a second after that. Times are in seconds."""

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, and when that was

    def take(self, name: str, now: float) -> bool:
        """Whether `name` may do it once more; takes one token if so."""
        left, at = self._buckets.pop(name, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._rate)
        allowed = left >= 1.0
        self._buckets[name] = (left - 1.0 if allowed else left, now)
        if len(self._buckets) > MAX_NAMES:
            self._buckets.popitem(last=False)
        return allowed
