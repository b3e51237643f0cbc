"""When a state is handed out: every own reader was read once, and no batch is incomplete.

A batch is a policy change of several readers in one revision. Until all of its own sets have arrived, the last state stands; so a
policy that moves between two of our tags is never in neither.
"""

from collections.abc import Iterable

from warren_bus.feed.schedule import Schedule
from warren_bus.feed.state import FeedState, StateCause
from warren_bus.feed.times import Timer
from warren_bus.feed.verified_state import VerifiedState
from warren_contracts.subjects import Audience

_KINDS = ("policy", "directory")


class Release:
    """Decides about each state of the verified state, and keeps the one that waits to be handed out."""

    def __init__(self, verified: VerifiedState, schedule: Schedule, *, saved: bool) -> None:
        self._verified = verified
        self._schedule = schedule
        self._read: set[tuple[str, Audience]] = {
            (kind, reader) for reader in (verified.readers if saved else ()) for kind in _KINDS
        }
        self._required_again: set[Audience] = set()  # own readers of which a set may have been missed
        self._released = 0 if saved else -1  # the verified state's count of changes at the last state handed out
        self._state: FeedState | None = None
        self._accepted: StateCause | None = None  # the newest live document that changed something since the last state
        self.cause: StateCause | None = None  # of the last state; None: a snapshot made it

    def take(self) -> FeedState | None:
        """The newest state, once, if it has changed since the last call."""
        state, self._state = self._state, None
        return state

    @property
    def up_to_date(self) -> bool:
        """Whether every change was handed out."""
        return self._verified.changes == self._released

    def caused_by(self, cause: StateCause) -> None:
        """Remember the live document that made the newest change."""
        self._accepted = cause

    # -- what was read -----------------------------------------------------------------------------------------------

    def was_read(self, kind: str, reader: Audience) -> bool:
        return (kind, reader) in self._read

    def read(self, kind: str, reader: Audience) -> None:
        """A reader's policy set or directory is complete."""
        self._read.add((kind, reader))
        if kind == "policy":
            self._required_again.discard(reader)

    def keep_readers(self, readers: Iterable[Audience]) -> None:
        """Forget readers that are no longer ours."""
        kept = frozenset(readers)
        self._read = {(kind, reader) for kind, reader in self._read if reader in kept}

    def require_all_sets(self) -> None:
        """A set may have been missed, and it may have been part of a batch: read all own sets before the next state."""
        self._required_again.update(self._verified.readers)

    def missing(self) -> frozenset[Audience]:
        """Own readers of which a set is missing, or may be."""
        return self._verified.missing_of_batches().union(self._required_again.intersection(self._verified.readers))

    def waive_batches(self) -> None:
        """Wait for no batch that began before now."""
        self._verified.waive_batches()
        self._required_again.clear()

    def _complete(self) -> bool:
        required = ((kind, reader) for reader in self._verified.readers for kind in _KINDS)
        return self._verified.whoami is not None and all(pair in self._read for pair in required)

    # -- states ------------------------------------------------------------------------------------------------------

    def update(self, now: float, *, connected: bool) -> None:
        """Hand out the state if it has changed and is complete; else wait for what is missing."""
        if self.up_to_date or not self._complete():
            return
        schedule = self._schedule
        if self.missing():
            if connected:  # else the last state stands until the missing sets can be requested
                schedule.set_once(Timer.BATCH_REQUEST, now + schedule.times.batch_request)
                schedule.set_once(Timer.BATCH_LIMIT, now + schedule.times.batch_wait)
            return
        schedule.cancel(Timer.BATCH_REQUEST, Timer.BATCH_LIMIT)
        if schedule.is_set(Timer.SYNC_HOLD):
            return
        self._released = self._verified.changes
        self._state = self._verified.state()
        self.cause, self._accepted = self._accepted, None
