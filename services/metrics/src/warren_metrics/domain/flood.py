"""Bounds on what one peer can cause in a time: a taken-over agent must not fill EVENT, or the store, for everybody."""

from datetime import datetime

BURST = 2_000.0  # events at once: all tunnels of the largest gateway change twice
RATE = 50.0  # events a second after that; an honest gateway causes far fewer
EVENT_WEIGHT = 8_192  # bytes in memory of the tunnel that an event tells of: each more of them counts as one event more

NEW_BURST = 20_000.0  # tunnels seen for the first time, at once: twice MAX_TUNNELS_OF_PEER
NEW_RATE = (
    100.0  # a second after that: each leaves a row to be written or removed, also while PostgreSQL is unavailable
)


class Bucket:
    """A token bucket on the stream's clock."""

    def __init__(self, burst: float = BURST, rate: float = RATE) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = burst
        self._at: datetime | None = None

    def take(self, now: datetime, cost: float = 1.0) -> bool:
        """Whether `cost` more may be done."""
        if self._at is not None:
            passed = max(0.0, (now - self._at).total_seconds())
            self._tokens = min(self._burst, self._tokens + passed * self._rate)
        self._at = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True
