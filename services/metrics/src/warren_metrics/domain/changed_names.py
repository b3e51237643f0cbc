"""The names that changed since they were last read: what a reader with a copy of its own has to look at again."""

MAX_NAMES = 300_000  # three times the largest fleet; a reader that never comes costs no more


class ChangedNames:
    """Names in the order in which they changed first: as they lie in memory, so that a reader does not jump about in it.

    Before the first reading, and after more than MAX_NAMES of them, everything counts as changed.
    """

    def __init__(self) -> None:
        self._names: dict[str, None] | None = None

    def add(self, name: str) -> None:
        """One name changed."""
        if self._names is not None:
            self._names[name] = None
            if len(self._names) > MAX_NAMES:
                self._names = None

    def take(self) -> dict[str, None] | None:
        """The names since the last call; None: everything."""
        names, self._names = self._names, {}
        return names

    def invalidate(self) -> None:
        """Count everything as changed: a reading was not completed."""
        self._names = None
