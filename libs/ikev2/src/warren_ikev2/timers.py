"""The timers of an endpoint: a heap with at most one valid entry for each IKE_SA.

A deadline that is postponed leaves its entry in place: when it is due, nothing is done and the later deadline is armed. So
traffic that postpones the deadline costs nothing here.
"""

import heapq
from collections.abc import Callable
from itertools import count

from warren_ikev2.ike_sa import IkeSa


class Timers:
    """`is_known`: whether messages are still routed to an IKE_SA; entries of others are dropped."""

    def __init__(self, is_known: Callable[[IkeSa], bool]) -> None:
        self._is_known = is_known
        self._heap: list[tuple[float, int, IkeSa]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, sa: IkeSa, at: float | None) -> None:
        """Arm the IKE_SA's timer; an earlier one that is armed already stays."""
        if at is not None and (sa.scheduled is None or at < sa.scheduled):
            sa.scheduled = at
            heapq.heappush(self._heap, (at, next(self._order), sa))

    def next(self) -> float | None:
        """Return the earliest time, or None."""
        while self._heap:
            at, _, sa = self._heap[0]
            if sa.scheduled == at and self._is_known(sa):
                return at
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> IkeSa | None:
        """Return the next IKE_SA whose timer is due, and disarm it; None: nothing is due."""
        at = self.next()
        if at is None or at > now:
            return None
        sa = heapq.heappop(self._heap)[2]
        sa.scheduled = None
        return sa
