"""Exponential backoff with jitter, for every retry: the only implementation. Pure: the caller passes the randomness."""

from collections.abc import Callable

_MAX_DOUBLINGS = 16  # keeps the power small; every limit is reached before


def pause_s(failures: int, fraction: float, *, first_s: float, limit_s: float, least: float = 0.5) -> float:
    """Seconds to wait after so many failures in a row, not counting the last one.

    The longest pause doubles with each failure, from `first_s` up to `limit_s`. `fraction` (0 to 1, random) chooses between
    `least` of it and all of it, so that what failed together does not retry together.
    """
    longest = min(limit_s, first_s * 2.0 ** min(failures, _MAX_DOUBLINGS))
    return longest * (least + (1.0 - least) * fraction)


class Backoff:
    """The pauses of one retry loop. `random` gives numbers from 0 to 1."""

    def __init__(self, first_s: float, limit_s: float, random: Callable[[], float], least: float = 0.5) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._random = random
        self._least = least
        self._failures = 0

    def reset(self) -> None:
        """Start again with the first pause, after a success."""
        self._failures = 0

    def next_s(self) -> float:
        """Count one failure; returns the seconds until the next attempt."""
        pause = pause_s(self._failures, self._random(), first_s=self._first_s, limit_s=self._limit_s, least=self._least)
        self._failures += 1
        return pause
