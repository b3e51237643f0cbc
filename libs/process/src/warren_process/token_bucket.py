"""Token buckets: the only implementation of a rate limit. Pure: the caller passes the clock, in seconds of any one clock."""

from collections import OrderedDict

MAX_NAMES = 32_768  # that are tracked: more than nats-server accepts connections; the least recently seen is dropped


class TokenBucket:
    """Allow `burst` at once, and `rate` a second after that."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._at: float | None = None

    def available(self, now: float) -> float:
        """The tokens that are left at this time."""
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        return min(self._burst, self._left + passed * self._rate)

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Take `cost` tokens if so many are left; returns whether they were."""
        self._left, self._at = self.available(now), now
        if self._left < cost:
            return False
        self._left -= cost
        return True

    def give_back(self, now: float, cost: float = 1.0) -> None:
        """Return tokens that were taken for nothing."""
        self._left, self._at = min(self._burst, self.available(now) + cost), now

    def drain(self, now: float, cost: float = 1.0) -> None:
        """Take `cost` tokens, or as many as are left: for what has happened already."""
        self._left, self._at = max(0.0, self.available(now) - cost), now


class RateLimiter:
    """A token bucket for each name. The least recently used name is dropped past `max_names`."""

    def __init__(self, burst: float, rate: float, max_names: int = MAX_NAMES) -> None:
        self._burst = burst
        self._rate = rate
        self._max_names = max_names
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, name: str, now: float) -> bool:
        """Take one token of `name`; returns whether there was one."""
        return self._bucket(name).take(now)

    def give_back(self, name: str, now: float) -> None:
        """Return a token of `name` that was taken for nothing."""
        self._bucket(name).give_back(now)

    def drain(self, name: str, now: float) -> None:
        """Take one token of `name` if there is one: for what has happened already."""
        self._bucket(name).drain(now)

    def has(self, name: str, now: float) -> bool:
        """Whether `name` has a token left; takes none."""
        bucket = self._buckets.get(name)
        return bucket is None or bucket.available(now) >= 1.0

    def _bucket(self, name: str) -> TokenBucket:
        bucket = self._buckets.pop(name, None) or TokenBucket(self._burst, self._rate)
        self._buckets[name] = bucket
        if len(self._buckets) > self._max_names:
            self._buckets.popitem(last=False)
        return bucket
