"""The tunnels of the policies before and after a change, derived once for its check, its plan and its effects.

The newest sets are held: the next change derives only what differs from them. A set of more tunnels than `MAX_HELD` is not.
"""

from collections.abc import Mapping
from functools import cached_property
from threading import Lock

from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_intent.fleet_tunnels import FleetTunnels
from warren_policy.domain.revisions import RevisionChange

MAX_HELD = 20_000  # tunnels of one set, some 3 kB each
SETS = 2  # what is stored, and what the last change would make of it


class DerivedSets:
    """The newest sets of policies and their tunnels."""

    def __init__(self) -> None:
        self._held: list[tuple[dict[str, PublishedPolicy], FleetTunnels]] = []  # the newest first
        self._lock = Lock()  # changes and plans are computed in threads

    def of(self, change: RevisionChange, records: Mapping[str, PeerRecord]) -> "DerivedChange":
        """The two sets of a change, each derived when it is first needed."""
        return DerivedChange(self, change, records)

    def tunnels(self, policies: Mapping[str, PublishedPolicy], records: Mapping[str, PeerRecord]) -> FleetTunnels:
        """The tunnels of a complete set of policies."""
        with self._lock:
            same = next((found for of, found in self._held if of == policies), None)
            earlier = same or (self._held[0][1] if self._held else None)
            made = FleetTunnels(policies.values(), records, earlier)
            others = [it for it in self._held if it[1] is not same]
            if len(made.requests) <= MAX_HELD:
                self._held = [(dict(policies), made), *others][:SETS]
            return made


class DerivedChange:
    """The tunnels before and after one change."""

    def __init__(self, sets: DerivedSets, change: RevisionChange, records: Mapping[str, PeerRecord]) -> None:
        self._sets = sets
        self._change = change
        self.records = records

    @cached_property
    def before(self) -> FleetTunnels:
        return self._sets.tunnels(self._change.before, self.records)

    @cached_property
    def after(self) -> FleetTunnels:
        return self._sets.tunnels(self._change.after, self.records)
