"""Which of several ways to the same traffic is used. Pure: times are seconds of one monotonic clock.

A way is one address of one tunnel's other end. The ways of a group are in the order of preference: the addresses of the tunnel of
the highest priority first. Exactly one of them is in use. It is left when it fails and another one may work, and a preferred one
is taken again after it has answered for the hold-down, so that an address that comes and goes does not take the tunnel with it.

A way is judged by probes of its IKE endpoint (`ike_probe`), since neither DPD nor charon's retransmissions would notice in time,
and by whether its tunnel is up. A gateway that never answers probes is judged by its tunnel only.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from warren_contracts.addresses import Endpoint

DEAD_AFTER = 3.0  # s without an answer, after the first that is missing
FIRST_LIMIT = 3.0  # s in which a way must come up or answer if another one answers
START_LIMIT = 10.0  # s in which a way must come up; longer than a negotiation with one retransmission (4 s)
RETRY_AFTER = 30.0  # s before a way that failed is tried again although nothing has changed
HOLD_DOWN = 60.0  # s that a preferred way must answer before it is used again
ADOPT_WITHIN = 3.0  # s after the start in which a tunnel that an earlier run established decides


class Way(NamedTuple):
    """One address of the other end of a tunnel."""

    tunnel: str
    endpoint: Endpoint


@dataclass
class Health:
    """What probes found of one way."""

    answering_since: float | None = None
    silent_since: float | None = None
    has_answered: bool = False
    failed_at: float = float("-inf")

    @property
    def answers(self) -> bool:
        return self.answering_since is not None


@dataclass
class PathChoice:
    """The ways of one group and the one in use."""

    ways: tuple[Way, ...]
    hold_down: float
    since: float  # when the way in use was chosen, or its tunnel was lost
    began: float
    current: Way
    health: dict[Way, Health] = field(default_factory=dict)
    up: frozenset[str] = frozenset()  # converged tunnels

    @classmethod
    def start(cls, ways: tuple[Way, ...], now: float, hold_down: float = HOLD_DOWN) -> "PathChoice":
        """Begin with the preferred way."""
        return cls(ways, hold_down, now, now, ways[0], {way: Health() for way in ways})

    def replace_ways(self, ways: tuple[Way, ...], now: float) -> None:
        """Take other addresses or tunnels; what is known of the remaining ones stays."""
        self.ways = ways
        self.health = {way: self.health.get(way, Health()) for way in ways}
        if self.current not in ways:
            same_tunnel = [way for way in ways if way.tunnel == self.current.tunnel]
            self.current, self.since = (same_tunnel or list(ways))[0], now

    def probed(self, way: Way, answered: bool, now: float) -> None:
        """Record the result of a probe."""
        health = self.health.get(way)
        if health is None:
            return
        if answered:
            health.has_answered, health.silent_since = True, None
            health.answering_since = now if health.answering_since is None else health.answering_since
        else:
            health.silent_since = now if health.silent_since is None else health.silent_since
            if now - health.silent_since >= DEAD_AFTER:
                health.answering_since = None

    def observed(self, tunnel: str, converged: bool, now: float) -> None:
        """Record whether a tunnel is up on its newest configuration."""
        was_up = tunnel in self.up
        self.up = self.up | {tunnel} if converged else self.up - {tunnel}
        if was_up and not converged and tunnel == self.current.tunnel:
            self.since = now
        if converged and now - self.began < ADOPT_WITHIN and self.current.tunnel not in self.up:
            self.current = next(way for way in self.ways if way.tunnel == tunnel)
            self.since = now

    def step(self, now: float) -> bool:
        """Decide; returns whether another way is in use now."""
        chosen = self._preferred(now) or (self._alternative(now) if self._has_failed(now) else None)
        if chosen is None or chosen == self.current:
            return False
        self.current, self.since = chosen, now
        return True

    def is_doubtful(self, way: Way) -> bool:
        """Whether an answer is missing, so that it is probed more often."""
        health = self.health[way]
        return health.answers and health.silent_since is not None

    def _preferred(self, now: float) -> Way | None:
        """A preferred way that has answered long enough."""
        for way in self.ways[: self.ways.index(self.current)]:
            health = self.health[way]
            settled = health.answering_since is not None and now - health.answering_since >= self.hold_down
            if settled and not self.is_doubtful(way) and now - max(health.failed_at, self.since) >= self.hold_down:
                return way
        return None

    def _has_failed(self, now: float) -> bool:
        health, used_for = self.health[self.current], now - self.since
        others_answer = any(it.answers for way, it in self.health.items() if way != self.current)
        if self.current.tunnel in self.up:
            return health.has_answered and not health.answers and others_answer
        if not health.answers and others_answer:
            return used_for >= FIRST_LIMIT or health.has_answered
        return used_for >= START_LIMIT

    def _alternative(self, now: float) -> Way | None:
        """The most preferred way that answers, else the next one of which nothing is known."""
        self.health[self.current].failed_at = now
        position = self.ways.index(self.current)
        in_turn = (*self.ways[position + 1 :], *self.ways[:position])
        rested = [way for way in in_turn if now - self.health[way].failed_at >= RETRY_AFTER]
        answering = [way for way in self.ways if way != self.current and self.health[way].answers]
        fresh = [way for way in answering if way in rested]
        if not self.health[self.current].answers and answering:
            return (fresh or answering)[0]
        if fresh:
            return fresh[0]
        unknown = [way for way in rested if not self.health[way].has_answered]
        self.since = now if not unknown else self.since
        return unknown[0] if unknown else None
