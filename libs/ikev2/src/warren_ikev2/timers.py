"""When to look at which IKE_SA: a heap with at most one useful entry for each.

A deadline that moves away leaves its entry where it is: the earlier look finds nothing to do and arms the later one. So
traffic that keeps an IKE_SA alive costs nothing here.
"""

import heapq
from collections.abc import Callable
from itertools import count

from warren_ikev2.ike_sa import IkeSa


class Timers:
    """`is_known` says whether an IKE_SA is still routed; entries of others are dropped."""

    def __init__(self, is_known: Callable[[IkeSa], bool]) -> None:
        self._is_known = is_known
        self._heap: list[tuple[float, int, IkeSa]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self._heap)

    def arm(self, sa: IkeSa, at: float | None) -> None:
        """Look at the IKE_SA at a time, or earlier if that is arranged already."""
        if at is not None and (sa.scheduled is None or at < sa.scheduled):
            sa.scheduled = at
            heapq.heappush(self._heap, (at, next(self._order), sa))

    def next(self) -> float | None:
        """The earliest time."""
        while self._heap:
            at, _, sa = self._heap[0]
            if sa.scheduled == at and self._is_known(sa):
                return at
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> IkeSa | None:
        """The next IKE_SA whose time has come; it is no longer armed."""
        at = self.next()
        if at is None or at > now:
            return None
        sa = heapq.heappop(self._heap)[2]
        sa.scheduled = None
        return sa
