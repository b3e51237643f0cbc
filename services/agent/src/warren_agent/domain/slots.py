"""Which tunnels are started now: at most SLOTS negotiations at a time, and peers that do not answer delay no other. Pure.

charon has sixteen threads, and every negotiation costs a Diffie-Hellman exchange: a gateway that starts a hundred at once answers
none in time. An attempt holds a slot until it has a result. One that nobody answers would hold it for half a minute, so it is
given up for a tunnel that waits: soon for one that has not failed yet, later for one that has. Tunnels whose peers did not
answer never hold all slots.
"""

from collections.abc import Mapping
from typing import NamedTuple

from warren_agent.domain.watchdog import INITIATION_SPACING, Watch, attempt_limit, due_at, started

SLOTS = 3  # negotiations in flight
SILENT_SLOTS = 2  # of them, tunnels whose last attempt nobody answered
FRESH_PATIENCE = 0.5  # s without an answer before an attempt is given up for a tunnel that did not fail
SILENT_PATIENCE = 5.0  # s before it is given up for one that did: charon's first retransmission comes after 4 s


class SlotSchedule(NamedTuple):
    """What to do now, in this order, and the seconds until there may be more; None: not before an event."""

    give_up: tuple[str, ...]
    start: tuple[str, ...]
    wait: float | None


class _Slots:
    """The negotiations in flight while a schedule is made."""

    def __init__(self, watches: Mapping[str, Watch], now: float) -> None:
        self.now = now
        flying = {name: watch for name, watch in watches.items() if watch.attempt is not None}
        self.given_up = [name for name, watch in flying.items() if self.age(watch) >= attempt_limit(watch)]
        # Whose place may be taken, the oldest first; an attempt that the peer has answered is not disturbed.
        oldest = sorted(flying.items(), key=lambda it: (not it[1].unanswered, -self.age(it[1])))
        self.held = {name: watch for name, watch in oldest if name not in self.given_up}

    def age(self, watch: Watch) -> float:
        return self.now - (watch.attempt if watch.attempt is not None else self.now)

    def wait_for(self, watch: Watch) -> float:
        """Seconds until a slot is free for a tunnel: 0 if there is now, also by giving up another."""
        silent = watch.unanswered > 0
        alike = {name: it for name, it in self.held.items() if it.unanswered}
        crowded = silent and len(alike) >= SILENT_SLOTS
        if len(self.held) < SLOTS and not crowded:
            return 0.0
        rivals = alike if crowded else self.held
        patience = SILENT_PATIENCE if silent else FRESH_PATIENCE
        waits = {name: patience - self.age(it) for name, it in rivals.items() if not it.answered}
        ready = next((name for name, seconds in waits.items() if seconds <= 0), None)
        if ready is None:
            return min(waits.values(), default=INITIATION_SPACING)
        self.given_up.append(ready)
        del self.held[ready]
        return 0.0


def schedule(watches: Mapping[str, Watch], now: float) -> SlotSchedule:
    """Choose among these tunnels, whose daemons answer."""
    slots = _Slots(watches, now)
    due = {name: at for name, watch in watches.items() if (at := due_at(watch)) is not None}
    start: list[str] = []
    waits = [at - now for at in due.values() if at > now]
    for name in sorted((it for it, at in due.items() if at <= now), key=lambda it: (watches[it].unanswered, due[it])):
        if (seconds := slots.wait_for(watches[name])) > 0:
            waits.append(seconds)
            continue
        start.append(name)
        slots.held[name] = started(watches[name], now)
    waits += [attempt_limit(it) - slots.age(it) for it in slots.held.values()]
    return SlotSchedule(tuple(slots.given_up), tuple(start), max(0.0, min(waits)) if waits else None)
