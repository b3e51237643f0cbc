"""Lines of a part that unauthenticated peers can cause: a few in an interval, then their number.

nats-server logs every refused connection and message. Without a limit, 43,000 attempts rotate 22 MB of other lines away.
"""

import time
from collections.abc import Callable, Sequence

INTERVAL_SECONDS = 10.0
LINES = 20
"""Such lines in an interval."""
LONGEST_LINE = 1 << 16
"""Bytes without a line end that are held back to be looked at."""


class NoiseLimit:
    """Filters output that contains one of `words` (lower case) in a line."""

    def __init__(self, words: Sequence[bytes], clock: Callable[[], float] = time.monotonic) -> None:
        self._words = tuple(words)
        self._clock = clock
        self._rest = b""  # an incomplete line
        self._since = float("-inf")
        self._lines = 0
        self._left_out = 0
        self._due = False  # a new interval has begun, and lines of the last one were left out

    def filter(self, chunk: bytes) -> bytes:
        """What of a chunk is logged; an incomplete line comes with its end."""
        if not self._words:
            return chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        kept: list[bytes] = []
        for line in lines:
            if self._is_kept(line):
                kept += [self._note(), line] if self._due else [line]
        if len(self._rest) > LONGEST_LINE:
            kept.append(self.rest())
        return b"".join(line + b"\n" for line in kept)

    def rest(self) -> bytes:
        """What was held back, at the end of the output."""
        rest, self._rest = self._rest, b""
        return rest

    def _is_kept(self, line: bytes) -> bool:
        lower = line.lower()
        if not any(word in lower for word in self._words):
            return True
        now = self._clock()
        if now - self._since >= INTERVAL_SECONDS:
            self._since, self._lines, self._due = now, 0, self._left_out > 0
        self._lines += 1
        if self._lines <= LINES:
            return True
        self._left_out += 1
        return False

    def _note(self) -> bytes:
        count, self._left_out, self._due = self._left_out, 0, False
        return f"-- {count} lines about refused connections and messages were left out".encode()
