"""A bound on the events that one peer can cause: a taken-over agent must not fill EVENT for everybody."""

from datetime import datetime

BURST = 2_000.0  # events at once: all tunnels of the largest gateway change twice
RATE = 50.0  # events a second after that; an honest gateway causes far fewer


class Bucket:
    """A token bucket on the stream's clock."""

    def __init__(self) -> None:
        self._tokens = BURST
        self._at: datetime | None = None

    def take(self, now: datetime) -> bool:
        """Whether one more event may be told."""
        if self._at is not None:
            self._tokens = min(BURST, self._tokens + max(0.0, (now - self._at).total_seconds()) * RATE)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
