"""How long a change of a policy takes from the edit to each gateway.

The edit's time is that of the policy service when it stored the revision, the gateway's that of the bus when it stored the report:
no gateway's clock is used. A report may arrive before the event of its revision.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

MAX_REVISIONS = 1_000  # whose time is remembered: later reports of an older one are of a gateway that was offline
MAX_WAITING = 10_000  # reports of a revision whose event has not arrived
MAX_WAIT_S = 10.0


class RevisionArrival(NamedTuple):
    """A gateway applied a revision completely for the first time."""

    peer: str
    revision: int
    at: datetime
    traceparent: str = ""


class Propagation:
    """Joins edits and arrivals."""

    def __init__(self) -> None:
        self._edited: dict[int, datetime] = {}
        self._waiting: list[RevisionArrival] = []

    @property
    def edited(self) -> Mapping[int, datetime]:
        """When each of the newest revisions was stored."""
        return self._edited

    def edit(self, revision: int, at: datetime) -> list[tuple[RevisionArrival, float]]:
        """A revision was stored; returns the arrivals that waited for it, with their seconds."""
        self._edited.setdefault(revision, at)
        while len(self._edited) > MAX_REVISIONS:
            del self._edited[next(iter(self._edited))]
        due = [arrival for arrival in self._waiting if arrival.revision == revision]
        self._waiting = [arrival for arrival in self._waiting if arrival.revision != revision]
        return [(arrival, _seconds(at, arrival.at)) for arrival in due]

    def arrive(self, arrival: RevisionArrival) -> float | None:
        """A gateway applied a revision; the seconds since its edit, or None while that is unknown."""
        at = self._edited.get(arrival.revision)
        if at is not None:
            return _seconds(at, arrival.at)
        recent = [it for it in self._waiting if _seconds(it.at, arrival.at) <= MAX_WAIT_S]
        self._waiting = [*recent, arrival][-MAX_WAITING:]
        return None


def _seconds(edited: datetime, at: datetime) -> float:
    return max(0.0, (at - edited).total_seconds())
