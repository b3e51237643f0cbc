"""Series in memory, as blocks of lines that are rendered and compressed again only when a value in them changes.

The text formats want all lines of one metric next to each other, so a block holds the lines of one metric for up to BLOCK_SIZE
rows (a row: one end of one tunnel, or one peer). A row keeps its place as long as its labels stay the same; the states of a quiet
fleet cost nothing at a scrape, and its counters cost their own lines only.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress as compress_by
from itertools import count
from operator import ne
from typing import Literal, NamedTuple

from warren_metrics.adapters.gzip_parts import Part, compress

BLOCK_SIZE = 1_024  # rows: some 90 kB of text, 6 kB compressed

Kind = Literal["gauge", "counter", "untyped"]
# A number, or None for no line; of some families text: further labels of a line whose value is 1.
Value = float | str | None


class Family(NamedTuple):
    """One metric. The name of a counter ends with `_total`."""

    kind: Kind
    name: str
    text: str


Values = tuple[Value, ...]  # of a row: one for each family of its table


class SeriesTable:
    """Rows with the same families, in groups that are replaced together: of a tunnel its ends. One thread at a time may use it.

    `labels` makes the text of a row's labels, `{tunnel="a",peer="b"} `, of the names of its group and of itself.
    """

    def __init__(self, families: Sequence[Family], labels: Callable[[str, str], str]) -> None:
        self._families = tuple(families)
        self._labels_of = labels
        self._rows: dict[str, tuple[str, ...]] = {}  # the names of the rows of each group, in order
        self._slots: dict[str, tuple[int, ...]] = {}  # and their places
        self._free: list[int] = []
        self._labels: list[str] = []  # by slot; empty: free
        self._values: list[Values] = []  # by slot
        self._nothing: Values = (None,) * len(self._families)
        self._changed: list[set[int]] = []  # families, of each block
        self._parts: dict[tuple[int, int], Part] = {}  # by family and block
        self._heads = [
            {openmetrics: compress(_head(family, openmetrics)) for openmetrics in (False, True)}
            for family in self._families
        ]

    @property
    def groups(self) -> Iterable[str]:
        """The names of the groups."""
        return self._slots.keys()

    def replace(self, group: str, rows: tuple[str, ...], values: Sequence[Values]) -> None:
        """Set the rows of a group, by their names; none removes it."""
        if self._rows.get(group, ()) != rows:
            for slot in self._slots.get(group, ()):
                self._set(slot, self._nothing)
                self._labels[slot] = ""
                self._free.append(slot)
            self._rows[group] = rows
            self._slots[group] = tuple(self._place(self._labels_of(group, row)) for row in rows)
        if not rows:
            self._rows.pop(group, None)
            self._slots.pop(group, None)
            return
        for slot, of_row in zip(self._slots[group], values, strict=True):
            self._set(slot, of_row)

    def parts(self, openmetrics: bool) -> Iterator[Part]:
        """The exposition of all families in order."""
        for block, changed in enumerate(self._changed):
            for number in changed:
                self._parts[number, block] = self._rendered(number, block)
            changed.clear()
        for number, heads in enumerate(self._heads):
            yield heads[openmetrics]
            for block in range(len(self._changed)):
                part = self._parts.get((number, block))
                if part is not None and part.size:
                    yield part

    def _place(self, labels: str) -> int:
        if self._free:
            slot = self._free.pop()
            self._labels[slot] = labels
            return slot
        slot = len(self._labels)
        self._labels.append(labels)
        self._values.append(self._nothing)
        if slot % BLOCK_SIZE == 0:
            self._changed.append(set())
        return slot

    def _set(self, slot: int, values: Values) -> None:
        before = self._values[slot]
        if before != values:
            self._values[slot] = values
            self._changed[slot // BLOCK_SIZE].update(compress_by(count(), map(ne, before, values)))

    def _rendered(self, number: int, block: int) -> Part:
        name, first = self._families[number].name, block * BLOCK_SIZE
        labels, rows = self._labels[first : first + BLOCK_SIZE], self._values[first : first + BLOCK_SIZE]
        found = [(label, value) for label, row in zip(labels, rows, strict=True) if (value := row[number]) is not None]
        if found and isinstance(found[0][1], str):
            return compress("".join([f"{name}{label[:-2]},{value}}} 1\n" for label, value in found]).encode())
        return compress("".join([f"{name}{label}{value}\n" for label, value in found]).encode())


def _head(family: Family, openmetrics: bool) -> bytes:
    """The lines in front of a metric's. OpenMetrics names a counter without `_total`, and calls an untyped metric unknown."""
    name = family.name.removesuffix("_total") if openmetrics and family.kind == "counter" else family.name
    kind = "unknown" if openmetrics and family.kind == "untyped" else family.kind
    return f"# HELP {name} {family.text}\n# TYPE {name} {kind}\n".encode()
