"""The pauses before the client connects again. Pure: the caller has the clock and the timers."""

from collections.abc import Callable

from warren_process.backoff import Backoff

FIRST_S, LIMIT_S = 1.0, 60.0
"""Between rounds over all servers, and between sessions that the server ends soon."""
STABLE_S = 60.0
"""A session that has lasted so long is not a sign of a conflict."""


class Pauses:
    """Of one run."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._rounds = Backoff(FIRST_S, LIMIT_S, random)
        self._losses = Backoff(FIRST_S, LIMIT_S, random)
        self._is_first = True

    def connected(self) -> None:
        """A server could be used."""
        self._rounds.reset()

    def after_round(self) -> float:
        """Seconds after a round over all servers, none of which could be used."""
        return self._rounds.next_s()

    def after_session(self, lasted_s: float) -> float:
        """Seconds after a session that the server has ended; 0: none.

        The first one is followed by another at once, as after a restart of the server. Each further one that ends soon has a longer
        pause: two devices with one identity would otherwise end each other's sessions without a rest.
        """
        if lasted_s >= STABLE_S:
            self._losses.reset()
            self._is_first = True
        if self._is_first:
            self._is_first = False
            return 0.0
        return self._losses.next_s()
