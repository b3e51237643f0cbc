"""Names in order, of which pages are read: they are sorted once for however many changes, and not for every page."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice


class SortedNames:
    """A set of names that is read in order."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._added: set[str] = set()  # since the last reading
        self._removed: set[str] = set()

    def add(self, name: str) -> None:
        """Add a name that is not in the set."""
        if name in self._removed:
            self._removed.remove(name)
        else:
            self._added.add(name)

    def remove(self, name: str) -> None:
        """Remove a name that is in the set."""
        if name in self._added:
            self._added.remove(name)
        else:
            self._removed.add(name)

    def after(self, name: str) -> Iterator[str]:
        """The names greater than `name`, in order. The set must not change while they are read."""
        if self._removed:
            self._names = [it for it in self._names if it not in self._removed]
            self._removed.clear()
        if self._added:
            self._names += self._added
            self._names.sort()  # what is in order already costs a comparison each
            self._added.clear()
        return islice(self._names, bisect_right(self._names, name), None)
