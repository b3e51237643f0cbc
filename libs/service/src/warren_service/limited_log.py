"""Log lines that others can cause: each at most once in an interval, with how many were left out.

An unauthenticated peer can cause thousands of refusals a second. Were each a line, it would rotate away what an operator needs.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

INTERVAL_S = 10.0
MAX_KEYS = 1_024  # that are tracked
MAX_LINES = 64  # of one event in an interval, whatever their keys are


class Emit(Protocol):
    """A level of a structlog logger: `log.warning`."""

    def __call__(self, event: str, /, **fields: Any) -> Any: ...


class LimitedLog:
    """One event, by keys such as the address of the peer that causes it."""

    def __init__(
        self, emit: Emit, event: str, interval_s: float = INTERVAL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._event = event
        self._interval_s = interval_s
        self._clock = clock
        self._keys: OrderedDict[str, tuple[float, int]] = OrderedDict()  # the last line, and what was left out since
        self._window = float("-inf")
        self._lines = 0
        self._left_out = 0  # of all keys, because of MAX_LINES

    def write(self, key: str, **fields: Any) -> bool:
        """Log it, unless a line of this key, or too many of others, were logged in this interval; returns whether it was."""
        now = self._clock()
        if now - self._window >= self._interval_s:
            self._window, self._lines = now, 0
        last, suppressed = self._keys.pop(key, (float("-inf"), 0))
        if now - last < self._interval_s:
            self._keys[key] = (last, suppressed + 1)
            return False
        if self._lines >= MAX_LINES:
            self._left_out += 1
            return False
        self._lines += 1
        self._keys[key] = (now, 0)
        while len(self._keys) > MAX_KEYS:
            self._left_out += self._keys.popitem(last=False)[1][1]
        counts = {"suppressed": suppressed, "suppressed_of_others": self._left_out}
        self._left_out = 0
        self._emit(self._event, **fields, **{name: count for name, count in counts.items() if count})
        return True
