"""Series in memory, as blocks of lines that are rendered and compressed again only when a value in them changes.

The text formats want all lines of one metric next to each other, so a block holds the lines of one metric for up to BLOCK_SIZE
rows (a row: one end of one tunnel, or one peer). A row keeps its place as long as its labels stay the same; the states of a quiet
fleet cost nothing at a scrape, and its counters cost their own lines only.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import compress as compress_by
from itertools import count
from operator import ne
from typing import Literal, NamedTuple

from warren_metrics.adapters.gzip_parts import Part, compress

BLOCK_SIZE = 1_024  # rows: some 90 kB of text, 6 kB compressed

Kind = Literal["gauge", "counter", "untyped"]
# A number, None for no line, or text: further labels of a line whose value is 1.
Value = float | str | None


class Family(NamedTuple):
    """One metric. The name of a counter ends with `_total`."""

    kind: Kind
    name: str
    text: str


class Row(NamedTuple):
    """One row: its labels as text (`{tunnel="a",peer="b"} `), and a value for each family of its table."""

    labels: str
    values: tuple[Value, ...]


class SeriesTable:
    """Rows with the same families, in groups that are replaced together. One thread at a time may use it."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = tuple(families)
        self._slots: dict[str, tuple[int, ...]] = {}  # of each group
        self._free: list[int] = []
        self._labels: list[str] = []  # by slot; empty: free
        self._values: list[tuple[Value, ...]] = []  # by slot
        self._nothing: tuple[Value, ...] = (None,) * len(self._families)
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

    def replace(self, group: str, rows: Sequence[Row]) -> None:
        """Set the rows of a group; none removes it."""
        slots = self._slots.get(group, ())
        labels = self._labels
        if [labels[slot] for slot in slots] != [row.labels for row in rows]:
            for slot in slots:
                self._set(slot, self._nothing)
                labels[slot] = ""
                self._free.append(slot)
            slots = tuple(self._place(row.labels) for row in rows)
            if rows:
                self._slots[group] = slots
            else:
                self._slots.pop(group, None)
        for slot, row in zip(slots, rows, strict=True):
            self._set(slot, row.values)

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

    def _set(self, slot: int, values: tuple[Value, ...]) -> None:
        before = self._values[slot]
        if before != values:
            self._values[slot] = values
            self._changed[slot // BLOCK_SIZE].update(compress_by(count(), map(ne, before, values)))

    def _rendered(self, number: int, block: int) -> Part:
        name, first = self._families[number].name, block * BLOCK_SIZE
        lines = [
            f"{name}{label[:-2]},{value}}} 1\n" if isinstance(value, str) else f"{name}{label}{value}\n"
            for label, values in zip(
                self._labels[first : first + BLOCK_SIZE], self._values[first : first + BLOCK_SIZE], strict=True
            )
            if (value := values[number]) is not None
        ]
        return compress("".join(lines).encode())


def _head(family: Family, openmetrics: bool) -> bytes:
    """The lines in front of a metric's. OpenMetrics names a counter without `_total`, and calls an untyped metric unknown."""
    name = family.name.removesuffix("_total") if openmetrics and family.kind == "counter" else family.name
    kind = "unknown" if openmetrics and family.kind == "untyped" else family.kind
    return f"# HELP {name} {family.text}\n# TYPE {name} {kind}\n".encode()
