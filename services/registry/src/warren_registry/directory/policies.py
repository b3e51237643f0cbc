"""The published intent as the registry sees it: the newest set of every reader, and when it is whole.

A change that touches several readers is one batch, but its messages arrive one by one. Acting on half of it would withdraw
records and publish them again a millisecond later; so the view is whole only when every reader that a batch names has
reached its revision. A batch that never completes (a lost message) is a gap, and a gap is answered by a new snapshot.
"""

from collections.abc import Iterable

from warren_contracts.policy import PolicySet, PublishedPolicy
from warren_contracts.policy_union import unite
from warren_contracts.subjects import Audience


class PolicyView:
    """Sets by reader, ordered by (epoch, revision) and by nothing else."""

    def __init__(self, sets: Iterable[PolicySet] = ()) -> None:
        self._sets: dict[Audience, PolicySet] = {}
        self.changes = 0  # counts what was accepted
        for given in sets:
            self.accept(given)

    def accept(self, given: PolicySet) -> bool:
        """Take a set unless a newer or equal one is held; returns whether anything changed."""
        held = self._sets.get(given.reader)
        if held is not None and (held.epoch, held.revision) >= (given.epoch, given.revision):
            return False
        self._sets[given.reader] = given
        self.changes += 1
        return True

    def revision(self, reader: Audience) -> int:
        """Of the newest set of a reader; 0: none was ever published."""
        held = self._sets.get(reader)
        return held.revision if held is not None else 0

    @property
    def epochs(self) -> frozenset[int]:
        """The epochs that sets are of: one, unless a new one is being published."""
        return frozenset(held.epoch for held in self._sets.values())

    @property
    def readers(self) -> frozenset[Audience]:
        return frozenset(self._sets)

    def whole(self) -> bool:
        """Whether every batch that is known of has arrived completely."""
        return all(
            (named := self._sets.get(reader)) is not None
            and (named.epoch, named.revision) >= (held.epoch, held.revision)
            for held in self._sets.values()
            for reader in held.batch
        )

    def policies(self) -> tuple[PublishedPolicy, ...]:
        """The union of the sets of the newest epoch by policy id; the highest revision wins."""
        epoch = max((held.epoch for held in self._sets.values()), default=0)
        # Sets of an epoch before a restore are void.
        return unite(held for held in self._sets.values() if held.epoch == epoch)
