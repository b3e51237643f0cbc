"""Series in memory, as blocks of lines that are rendered and compressed again only when a value in them changes.

The text formats want all lines of one metric next to each other, so a block holds the lines of one metric for up to BLOCK_SIZE
rows (a row: one end of one tunnel, or one peer). A row keeps its place as long as its labels stay the same; the states of a quiet
fleet cost nothing at a scrape, and its counters cost their own lines only.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress as compress_by
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
        self._numbers = range(len(self._families))
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
        """Set the rows of a group, by their names; none removes it. It runs for every tunnel of the fleet within a scrape."""
        if self._rows.get(group, ()) != rows:
            self._rename(group, rows)
        held, changed, numbers = self._values, self._changed, self._numbers
        for slot, of_row in zip(self._slots.get(group, ()), values, strict=True):
            before = held[slot]
            if before != of_row:
                held[slot] = of_row
                changed[slot // BLOCK_SIZE].update(compress_by(numbers, map(ne, before, of_row)))

    def _rename(self, group: str, rows: tuple[str, ...]) -> None:
        for slot in self._slots.pop(group, ()):
            self._empty(slot)
        self._rows.pop(group, None)
        if rows:
            self._rows[group] = rows
            self._slots[group] = tuple(self._place(self._labels_of(group, row)) for row in rows)

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

    def _empty(self, slot: int) -> None:
        before, self._values[slot] = self._values[slot], self._nothing
        self._changed[slot // BLOCK_SIZE].update(compress_by(self._numbers, map(ne, before, self._nothing)))
        self._labels[slot] = ""
        self._free.append(slot)

    def _rendered(self, number: int, block: int) -> Part:
        name, first = self._families[number].name, block * BLOCK_SIZE
        labels = self._labels[first : first + BLOCK_SIZE]
        column = [row[number] for row in self._values[first : first + BLOCK_SIZE]]
        kinds = set(map(type, column))
        if str in kinds:
            found = zip(labels, column, strict=True)
            lines = [f"{label[:-2]},{value}}} 1\n" for label, value in found if value is not None]
        elif type(None) in kinds:
            lines = [f"{label}{value}\n" for label, value in zip(labels, column, strict=True) if value is not None]
        else:
            lines = [f"{label}{value}\n" for label, value in zip(labels, column, strict=True)]
        return compress((name + name.join(lines)).encode() if lines else b"")


def _head(family: Family, openmetrics: bool) -> bytes:
    """The lines in front of a metric's. OpenMetrics names a counter without `_total`, and calls an untyped metric unknown."""
    name = family.name.removesuffix("_total") if openmetrics and family.kind == "counter" else family.name
    kind = "unknown" if openmetrics and family.kind == "untyped" else family.kind
    return f"# HELP {name} {family.text}\n# TYPE {name} {kind}\n".encode()
