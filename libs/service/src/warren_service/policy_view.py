"""The published policies: the newest set of every reader, and whether all batches are complete.

A change of several readers is one batch, but its messages arrive one by one. Acting on half of it would withdraw records and
publish them again a millisecond later; so the view is complete only when every reader that a batch names has reached its
revision. A batch that never completes (a lost message) is a gap, and a gap leads to a new snapshot.
"""

from collections.abc import Iterable

from warren_contracts.policy import PolicySet, PublishedPolicy
from warren_contracts.policy_union import unite
from warren_contracts.subjects import Audience


class PolicyView:
    """Sets by reader, ordered by (epoch, revision) only."""

    def __init__(self, sets: Iterable[PolicySet] = ()) -> None:
        self._sets: dict[Audience, PolicySet] = {}
        self.changes = 0  # number of accepted sets
        for given in sets:
            self.accept(given)

    def accept(self, given: PolicySet) -> bool:
        """Accept a set unless a newer or equal one is stored; returns whether it was accepted."""
        held = self._sets.get(given.reader)
        if held is not None and (held.epoch, held.revision) >= (given.epoch, given.revision):
            return False
        self._sets[given.reader] = given
        self.changes += 1
        return True

    def revision(self, reader: Audience) -> int:
        """The revision of a reader's newest set; 0: none was ever published."""
        held = self._sets.get(reader)
        return held.revision if held is not None else 0

    @property
    def epochs(self) -> frozenset[int]:
        """The epochs of the sets: one, unless a new one is being published."""
        return frozenset(held.epoch for held in self._sets.values())

    @property
    def readers(self) -> frozenset[Audience]:
        return frozenset(self._sets)

    def batches_complete(self) -> bool:
        """Whether every known batch has arrived completely."""
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
