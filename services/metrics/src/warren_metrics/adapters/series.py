"""Series in memory, as blocks of lines that are rendered and compressed again only when a value in them changes.

The text formats want all lines of one metric next to each other, so a block holds the lines of one metric for up to BLOCK_SIZE
rows (a row: one end of one tunnel, or one peer). A row keeps its place as long as its labels stay the same; the states of a quiet
fleet cost nothing at a scrape, and its counters cost their own lines only.
"""

from collections.abc import Iterable, Iterator, Sequence
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
        self._columns: list[list[Value]] = [[] for _ in self._families]
        self._changed: set[tuple[int, int]] = set()  # family, block
        self._parts: dict[tuple[int, int], Part] = {}
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
        if len(slots) != len(rows) or any(
            self._labels[slot] != row.labels for slot, row in zip(slots, rows, strict=True)
        ):
            for slot in slots:
                self._set(slot, (None,) * len(self._families))
                self._labels[slot] = ""
                self._free.append(slot)
            slots = tuple(self._place(row.labels) for row in rows)
        for slot, row in zip(slots, rows, strict=True):
            self._set(slot, row.values)
        if rows:
            self._slots[group] = slots
        else:
            self._slots.pop(group, None)

    def parts(self, openmetrics: bool) -> Iterator[Part]:
        """The exposition of all families in order."""
        blocks = -(-len(self._labels) // BLOCK_SIZE)
        for number, heads in enumerate(self._heads):
            yield heads[openmetrics]
            for block in range(blocks):
                if (number, block) in self._changed:
                    self._parts[number, block] = self._rendered(number, block)
                if self._parts[number, block].size:
                    yield self._parts[number, block]
        self._changed.clear()

    def _place(self, labels: str) -> int:
        if self._free:
            slot = self._free.pop()
            self._labels[slot] = labels
            return slot
        slot = len(self._labels)
        self._labels.append(labels)
        for number, column in enumerate(self._columns):
            column.append(None)
            self._changed.add((number, slot // BLOCK_SIZE))
        return slot

    def _set(self, slot: int, values: Sequence[Value]) -> None:
        for number, value in enumerate(values):
            column = self._columns[number]
            if column[slot] != value:
                column[slot] = value
                self._changed.add((number, slot // BLOCK_SIZE))

    def _rendered(self, number: int, block: int) -> Part:
        name, first = self._families[number].name, block * BLOCK_SIZE
        labels = self._labels[first : first + BLOCK_SIZE]
        column = self._columns[number][first : first + BLOCK_SIZE]
        lines = [
            f"{name}{label[:-2]},{value}}} 1\n" if isinstance(value, str) else f"{name}{label}{value}\n"
            for label, value in zip(labels, column, strict=True)
            if value is not None
        ]
        return compress("".join(lines).encode())


def _head(family: Family, openmetrics: bool) -> bytes:
    """The lines in front of a metric's. OpenMetrics names a counter without `_total`, and calls an untyped metric unknown."""
    name = family.name.removesuffix("_total") if openmetrics and family.kind == "counter" else family.name
    kind = "unknown" if openmetrics and family.kind == "untyped" else family.kind
    return f"# HELP {name} {family.text}\n# TYPE {name} {kind}\n".encode()
