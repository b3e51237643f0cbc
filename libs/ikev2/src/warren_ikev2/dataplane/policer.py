"""Rate limits of sessions: a token bucket each way (RFC 2697's committed rate and burst, one colour).

A limit belongs to a session, whatever CHILD_SAs it has and however often they are rekeyed, so both IP versions share it. It is
here and not in nftables, because here the session of a packet is known without a rule for each client, and without a process
that may change rules while it talks to the network.
"""

from collections.abc import Callable
from weakref import WeakValueDictionary

BURST_SECONDS = 0.25
"""What may pass at once: TCP needs about a round trip's worth to reach the rate."""
MIN_BURST = 256 << 10
"""Bytes: four of the largest packets that the kernel hands over, each of which passes whole or is dropped."""


class ByteBucket:
    """Bytes per second, with a burst. It starts full."""

    __slots__ = ("_at", "_burst", "_clock", "_rate", "_tokens")

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        """`clock` returns seconds, monotonic."""
        self._rate = rate
        self._burst = self._tokens = max(rate * BURST_SECONDS, MIN_BURST)
        self._clock = clock
        self._at = clock()

    def take(self, size: int) -> bool:
        """Whether `size` bytes may pass now; they are counted if so."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if size > self._tokens:
            return False
        self._tokens -= size
        return True


class Policer:
    """The two buckets of a session."""

    __slots__ = ("__weakref__", "inbound", "outbound", "rate")

    def __init__(self, rate: int, clock: Callable[[], float]) -> None:
        self.rate = rate
        self.inbound = ByteBucket(rate, clock)
        self.outbound = ByteBucket(rate, clock)


class Policers:
    """The policer of each session, for as long as a CHILD_SA has it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_session: WeakValueDictionary[int, Policer] = WeakValueDictionary()

    def of(self, session: int, rate: int) -> Policer:
        """The session's policer; a new one if there is none, or if the rate is another one."""
        policer = self._by_session.get(session)
        if policer is None or policer.rate != rate:
            policer = self._by_session[session] = Policer(rate, self._clock)
        return policer
