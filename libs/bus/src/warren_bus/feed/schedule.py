"""Requests of the current synchronisation, their retries, and the feed's timers. No I/O, no clock."""

from collections import Counter
from collections.abc import Iterator

from warren_bus.connect_backoff import Uniform
from warren_bus.feed.commands import Request
from warren_bus.feed.times import FeedTimes, Timer
from warren_process.backoff import pause_s


class Schedule:
    """What is requested, and what is due when. `now` is any monotonic clock in seconds."""

    def __init__(self, times: FeedTimes, rng: Uniform) -> None:
        self.times = times
        self.sync = 0  # the number of the current synchronisation
        self._started = 0.0
        self._rng = rng
        self._due: dict[Timer | Request, float] = {}
        self._pending: set[Request] = set()
        self._attempts: Counter[Request] = Counter()

    def reset(self) -> None:
        """Drop every request and timer; replies to them are no longer accepted."""
        self.sync += 1
        self._pending.clear()
        self._attempts.clear()
        self._due.clear()

    def started(self, now: float) -> None:
        """Remember when the current synchronisation started."""
        self._started = now

    # -- timers ------------------------------------------------------------------------------------------------------

    def jitter(self, limit_s: float) -> float:
        return self._rng.uniform(0, limit_s)

    def set(self, timer: Timer, due: float) -> None:
        self._due[timer] = due

    def set_once(self, timer: Timer, due: float) -> None:
        """Set a timer that is not set yet."""
        self._due.setdefault(timer, due)

    def cancel(self, *timers: Timer) -> None:
        for timer in timers:
            self._due.pop(timer, None)

    def is_set(self, timer: Timer) -> bool:
        return timer in self._due

    def schedule_resync(self, now: float) -> None:
        """Set the timer of the next synchronisation, unless it is set."""
        if Timer.SYNC not in self._due:
            jittered = now + self.jitter(self.times.resync_jitter)
            self._due[Timer.SYNC] = max(jittered, self._started + self.times.resync_interval)

    def next_due(self) -> float | None:
        return min(self._due.values(), default=None)

    def take_due(self, now: float) -> Iterator[Timer | Request]:
        """What is due, one at a time: handling one may cancel those after it."""
        for entry in [entry for entry, due in self._due.items() if due <= now]:
            if self._due.pop(entry, None) is not None:
                yield entry

    # -- requests ----------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no request waits for its reply."""
        return not self._pending

    def add(self, request: Request) -> None:
        self._pending.add(request)

    def awaits(self, request: Request) -> bool:
        """Whether a reply to this request is still accepted."""
        return request.sync == self.sync and request in self._pending

    def attempts(self, request: Request) -> int:
        return self._attempts[request]

    def retry(self, request: Request, now: float, first_s: float | None = None) -> None:
        """Send the request again after a jittered wait that grows with each attempt."""
        wait = pause_s(
            self._attempts[request],
            self._rng.uniform(0, 1),
            first_s=first_s or self.times.retry_first,
            limit_s=self.times.retry_limit,
        )
        self._attempts[request] += 1
        self._due[request] = now + wait

    def answered(self, request: Request) -> None:
        self._pending.discard(request)
        self._due.pop(request, None)
        if not self._pending:
            self._due.pop(Timer.SYNC_HOLD, None)
