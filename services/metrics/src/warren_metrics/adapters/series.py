"""Series in memory, as blocks of lines that are rendered and compressed again only when a value in them changes.

The text formats want all lines of one metric next to each other, so a block holds the lines of one metric for up to BLOCK_SIZE
rows (a row: one end of one tunnel, or one peer). A row keeps its place as long as its labels stay the same; the states of a quiet
fleet cost nothing at a scrape, and its counters cost their own lines only.

What is done for each row in Python is most of a scrape. So a replaced row is only put in its place: which metrics of a block have
changed is found for the whole block, by comparing its columns with those that were rendered.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from warren_metrics.adapters.gzip_parts import Part, compress

BLOCK_SIZE = 1_024  # rows: some 90 kB of text, 6 kB compressed

Kind = Literal["gauge", "counter", "untyped"]
# A number, or None for no line; of a family with further labels their texts.
Value = float | str | tuple[str, ...] | None


class Family(NamedTuple):
    """One metric. The name of a counter ends with `_total`.

    With `labels`, each line has these further ones, by the `%` operator with the row's value, and its number is 1.
    """

    kind: Kind
    name: str
    text: str
    labels: str = ""


Values = tuple[Value, ...]  # of a row: one for each family of its table; with further labels, or of a block: a column


class _Place(NamedTuple):
    """Where a group is: the names of its rows, in order, and their slots."""

    rows: tuple[str, ...]
    slots: tuple[int, ...]


_NOWHERE = _Place((), ())


class SeriesTable:
    """Rows with the same families, in groups that are replaced together: of a tunnel its ends. One thread at a time may use it.

    `labels` makes the text of a row's labels, `{tunnel="a",peer="b"} `, of the names of its group and of itself.
    """

    def __init__(self, families: Sequence[Family], labels: Callable[[str, str], str]) -> None:
        self._families = tuple(families)
        self._labels_of = labels
        self._places: dict[str, _Place] = {}  # by group
        self._free: list[int] = []
        self._labels: list[str] = []  # by slot; empty: free
        self._values: list[Values] = []  # by slot
        self._nothing: Values = (None,) * len(self._families)
        self._touched: set[int] = set()  # blocks with rows that were replaced
        # Of each block, as they were rendered; None: its labels have changed since
        self._columns: list[list[Values] | None] = []
        self._parts: dict[tuple[int, int], Part] = {}  # by family and block
        self._heads = [
            {openmetrics: compress(_head(family, openmetrics)) for openmetrics in (False, True)}
            for family in self._families
        ]

    @property
    def groups(self) -> Iterable[str]:
        """The names of the groups."""
        return self._places.keys()

    def replace(self, group: str, rows: tuple[str, ...], values: Sequence[Values]) -> None:
        """Set the rows of a group, by their names; none removes it. It runs for every tunnel of the fleet within a scrape."""
        place = self._places.get(group, _NOWHERE)
        if place.rows != rows:
            place = self._rename(group, place, rows)
        held, touched = self._values, self._touched
        for slot, of_row in zip(place.slots, values, strict=True):
            held[slot] = of_row
            touched.add(slot // BLOCK_SIZE)

    def _rename(self, group: str, before: _Place, rows: tuple[str, ...]) -> _Place:
        for slot in before.slots:
            self._empty(slot)
        self._places.pop(group, None)
        if not rows:
            return _NOWHERE
        place = _Place(rows, tuple(self._take(self._labels_of(group, row)) for row in rows))
        self._places[group] = place
        return place

    def parts(self, openmetrics: bool) -> Iterator[Part]:
        """The exposition of all families in order."""
        for block in self._touched:
            self._render(block)
        self._touched.clear()
        for number, heads in enumerate(self._heads):
            yield heads[openmetrics]
            for block in range(len(self._columns)):
                part = self._parts[number, block]
                if part.size:
                    yield part

    def _take(self, labels: str) -> int:
        """A slot for a row with these labels."""
        if self._free:
            slot = self._free.pop()
            self._labels[slot] = labels
        else:
            slot = len(self._labels)
            self._labels.append(labels)
            self._values.append(self._nothing)
            if slot % BLOCK_SIZE == 0:
                self._columns.append(None)
        self._columns[slot // BLOCK_SIZE] = None
        return slot

    def _empty(self, slot: int) -> None:
        self._values[slot] = self._nothing
        self._labels[slot] = ""
        self._free.append(slot)
        self._touched.add(slot // BLOCK_SIZE)

    def _render(self, block: int) -> None:
        """Render the metrics of a block that have changed."""
        rows = slice(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE)
        columns, before = list(zip(*self._values[rows], strict=True)), self._columns[block]
        labels = self._labels[rows]
        for number, column in enumerate(columns):
            if before is None or column != before[number]:
                self._parts[number, block] = compress(_lines(self._families[number], labels, column))
        self._columns[block] = columns


def _lines(family: Family, labels: Sequence[str], column: Values) -> bytes:
    """The lines of a metric; there is none where the value is None."""
    pairs = zip(labels, column, strict=True)
    if family.labels:
        lines = [f"{label[:-2]},{family.labels % value}}} 1\n" for label, value in pairs if value is not None]
    else:
        lines = [f"{label}{value}\n" for label, value in pairs if value is not None]
    return (family.name + family.name.join(lines)).encode() if lines else b""


def _head(family: Family, openmetrics: bool) -> bytes:
    """The lines in front of a metric's. OpenMetrics names a counter without `_total`, and calls an untyped metric unknown."""
    name = family.name.removesuffix("_total") if openmetrics and family.kind == "counter" else family.name
    kind = "unknown" if openmetrics and family.kind == "untyped" else family.kind
    return f"# HELP {name} {family.text}\n# TYPE {name} {kind}\n".encode()
