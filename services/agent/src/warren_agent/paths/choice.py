"""Which of several ways to the same traffic is used. Pure: times are seconds of one monotonic clock.

A way is one address of one tunnel's other end. The ways of a group are in the order of preference: the addresses of the tunnel of
the highest priority first. Exactly one of them is in use. It is left when it fails and another one may work, and a preferred one
is taken again after it has answered for the hold-down, so that an address that comes and goes does not take the tunnel with it.

A way is judged by probes of its IKE endpoint (`ike_probe`), since neither DPD nor charon's retransmissions would notice in time,
by whether its tunnel is up, and by echoes through it (`data_path`), since a filter may drop ESP only. A gateway that never answers
probes is judged by its tunnel only, and one that answers no echo on any way not by echoes.

ESP of a way that is not in use cannot be probed: never do two tunnels claim the same traffic. So each time in a row that a way loses
packets although its IKE endpoint answers, the hold-down before it is used again doubles.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from warren_contracts.addresses import Endpoint
from warren_process.backoff import pause_s

DEAD_AFTER = 3.0  # s without an answer, after the first that is missing
LEAST_LOST = 3  # echoes: an agent that was held up for seconds may miss one answer
FIRST_LIMIT = 3.0  # s in which a way must come up or answer if another one answers
START_LIMIT = 10.0  # s in which a way must come up; longer than a negotiation with one retransmission (4 s)
RETRY_AFTER = 30.0  # s before a way that failed is retried although nothing has changed
HOLD_DOWN = 60.0  # s that a preferred way must answer before it is used again
LONGEST_HOLD_DOWN = 3_600.0  # s
ADOPT_WITHIN = 3.0  # s after the start in which a tunnel that an earlier run established decides


class Way(NamedTuple):
    """One address of the other end of a tunnel."""

    tunnel: str
    endpoint: Endpoint


class Failure(Enum):
    """What is known against a way that is not in use."""

    NO_ANSWER = auto()  # its IKE endpoint answered probes, and does not any more
    LOSES_PACKETS = auto()  # its IKE endpoint answers, and when it was last in use echoes through its tunnel were lost


@dataclass
class WayHealth:
    """What probes found of one way."""

    answering_since: float | None = None
    silent_since: float | None = None
    has_answered: bool = False
    failed_at: float = float("-inf")
    lost: int = 0  # unanswered echoes in a row through its tunnel; only of the way in use
    lost_since: float | None = None  # when the first of them was sent
    carries: bool | None = None  # whether echoes passed when it was last in use; None: not known
    losses: int = 0  # times in a row that it was left since packets got lost

    @property
    def answers(self) -> bool:
        return self.answering_since is not None

    def forget_lost(self) -> None:
        """An echo was answered, or the tunnel through which they went is another one now."""
        self.lost, self.lost_since = 0, None


@dataclass
class PathChoice:
    """The ways of one group and the one in use."""

    ways: tuple[Way, ...]
    hold_down: float
    since: float  # when the way in use was chosen, or its tunnel was lost
    began: float
    current: Way
    health: dict[Way, WayHealth] = field(default_factory=dict)
    up: frozenset[str] = frozenset()  # converged tunnels
    is_echo_expected: bool = False  # the target of the last echo has answered before

    @classmethod
    def start(
        cls, ways: tuple[Way, ...], now: float, hold_down: float = HOLD_DOWN, in_use: Way | None = None
    ) -> "PathChoice":
        """Begin with the preferred way, or the one that an earlier run of the agent used."""
        return cls(ways, hold_down, now, now, in_use or ways[0], {way: WayHealth() for way in ways})

    def replace_ways(self, ways: tuple[Way, ...], now: float) -> None:
        """Take other addresses or tunnels; what is known of the remaining ones stays."""
        self.ways = ways
        self.health = {way: self.health.get(way, WayHealth()) for way in ways}
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

    def echoed(self, way: Way, answered: bool, now: float, *, known: bool) -> None:
        """Record the result of an echo through the tunnel in use; `known`: its target has answered before, on whatever way."""
        if way != self.current or way.tunnel not in self.up:
            return
        health, self.is_echo_expected = self.health[way], known
        if answered:
            health.forget_lost()
            health.carries = True
            if now - self.since >= self.hold_down:
                health.losses = 0
        else:
            health.lost += 1
            health.lost_since = now if health.lost_since is None else health.lost_since

    def observed(self, tunnel: str, converged: bool, now: float) -> None:
        """Record whether a tunnel is up on its newest configuration."""
        was_up = tunnel in self.up
        if not converged and tunnel == self.current.tunnel:
            self.health[self.current].forget_lost()
        self.up = self.up | {tunnel} if converged else self.up - {tunnel}
        if was_up and not converged and tunnel == self.current.tunnel:
            self.since = now
        if converged and now - self.began < ADOPT_WITHIN and self.current.tunnel not in self.up:
            self.current = next(way for way in self.ways if way.tunnel == tunnel)
            self.since = now

    def step(self, now: float) -> bool:
        """Decide; returns whether another way is in use now."""
        if self._is_silent(now):
            self.health[self.current].carries = False
        chosen = self._preferred(now) or (self._alternative(now) if self._has_failed(now) else None)
        if chosen is None or chosen == self.current:
            return False
        left = self.health[self.current]
        left.losses += self._loses_packets(now)
        left.forget_lost()
        self.current, self.since = chosen, now
        return True

    def is_doubtful(self, way: Way) -> bool:
        """Whether an answer is missing, so that it is probed more often."""
        health = self.health[way]
        return health.answers and health.silent_since is not None

    @property
    def is_in_trouble(self) -> bool:
        """Whether the way in use may have to be left soon, so that it matters which other ones answer."""
        health = self.health[self.current]
        return self.current.tunnel not in self.up or health.lost_since is not None or health.silent_since is not None

    @property
    def loses_packets(self) -> bool:
        """Whether echoes get lost in the tunnel in use whose target has answered before."""
        health = self.health[self.current]
        return self.is_echo_expected and health.lost >= LEAST_LOST and health.carries is False

    def note_unreachable(self, tunnel: str, now: float) -> None:
        """The peer of a tunnel announces that its daemon does not answer: its ways answer no probe until one is answered."""
        for way, health in self.health.items():
            if way.tunnel == tunnel:
                health.has_answered, health.answering_since = True, None
                health.silent_since = now if health.silent_since is None else health.silent_since

    def failure_of(self, tunnel: str) -> Failure | None:
        """Why a tunnel that is not in use could not take over; None if nothing is known against it."""
        ways = [self.health[way] for way in self.ways if way.tunnel == tunnel]
        if not ways or any(it.answers and not it.losses for it in ways):
            return None
        if any(it.answers for it in ways):
            return Failure.LOSES_PACKETS
        return Failure.NO_ANSWER if all(it.has_answered for it in ways) else None

    def _preferred(self, now: float) -> Way | None:
        """A preferred way that has answered long enough."""
        for way in self.ways[: self.ways.index(self.current)]:
            health = self.health[way]
            settled = health.answering_since is not None and now - health.answering_since >= self.hold_down
            rested = now - max(health.failed_at, self.since) >= self._hold_down_of(health)
            if settled and rested and not self.is_doubtful(way):
                return way
        return None

    def _hold_down_of(self, health: WayHealth) -> float:
        if not health.losses:
            return self.hold_down
        first, limit = max(self.hold_down, 1.0), max(LONGEST_HOLD_DOWN, self.hold_down)
        return pause_s(health.losses, 1.0, first_s=first, limit_s=limit)

    def _is_silent(self, now: float) -> bool:
        health = self.health[self.current]
        return health.lost_since is not None and health.lost >= LEAST_LOST and now - health.lost_since >= DEAD_AFTER

    def _loses_packets(self, now: float) -> bool:
        """Whether echoes through the tunnel in use are lost, and it is not for all ways that none is answered."""
        if not self._is_silent(now):
            return False
        others = [health.carries for way, health in self.health.items() if way != self.current]
        return self.is_echo_expected or any(carries is not False for carries in others)

    def _has_failed(self, now: float) -> bool:
        health, used_for = self.health[self.current], now - self.since
        others_answer = any(it.answers for way, it in self.health.items() if way != self.current)
        if self.current.tunnel in self.up:
            if self._loses_packets(now) and others_answer:
                return True
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
