"""What a terminal shows: tables for people, JSON for programs. Times are local, sizes are in bytes with a unit.

Much of it was written by others: see `warren_cli.terminal`.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from warren_cli.terminal import plain

if TYPE_CHECKING:  # both are imported where they are needed: a verb that prints a line waits for neither
    from pydantic import BaseModel
    from rich.text import Text

_COLOURS = {
    "up": "green", "online": "green", "yes": "green", "standby": "cyan", "connecting": "yellow", "degraded": "yellow",
    "unknown": "yellow", "down": "red", "error": "red", "offline": "red", "no": "red", "revoked": "red", "stale": "yellow",
}  # fmt: skip
_ANSI = {"bold": 1, "red": 31, "green": 32, "yellow": 33, "cyan": 36}  # ECMA-48, SGR
_WIDE = 10_000  # columns where the output is not a terminal: nothing may be cut off there
_LEAST = 20  # columns of a folded value


def print_json(value: "BaseModel | Sequence[BaseModel]") -> None:
    """A model, or a list of models, as JSON."""
    if not isinstance(value, Sequence):
        typer.echo(_json(value))
        return
    entries = ",\n".join(map(_json, value))
    typer.echo(f"[{entries}]")


def print_yaml(values: "Sequence[BaseModel]") -> None:
    """A list of models as YAML."""
    import yaml  # only where it is asked for

    typer.echo(
        yaml.safe_dump([value.model_dump(mode="json") for value in values], sort_keys=False, allow_unicode=False),
        nl=False,
    )


def _json(value: "BaseModel") -> str:
    return printable_json(value.model_dump_json(indent=2))


def printable_json(text: str) -> str:
    """JSON escapes what lies below the space by itself; the rest that is not printable can only stand inside strings."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], none: str, *, optional: Sequence[str] = ()
) -> None:
    """A table without lines; `none` says that there is nothing.

    A terminal that is too narrow loses the `optional` columns, in this order, then the last column is folded. No other value is
    ever broken: it can be copied and searched for.
    """
    listed = [[text_of(value) for value in row] for row in rows]
    if not listed:
        typer.echo(none, err=True)
        return
    from rich.cells import cell_len  # the whole of rich takes a third of the time of a verb that prints a table

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDE
    natural = [max(cell_len(name), *(cell_len(row[at]) for row in listed)) for at, name in enumerate(columns)]
    shown = list(range(len(columns)))
    for name in optional:
        if _width(natural[at] for at in shown) > width:
            shown.remove(columns.index(name))
    *kept, last = shown
    rest = max(min(natural[last], _LEAST), width - _width([*(natural[at] for at in kept), 0]))
    padding = [f"{columns[at]}{' ' * (natural[at] - cell_len(columns[at]) + 2)}" for at in kept]
    typer.echo(_coloured("".join([*padding, columns[last]]), "bold"))
    for row in listed:
        cells = [(row[at], " " * (natural[at] - cell_len(row[at]) + 2)) for at in kept]
        begin = "".join(_coloured(text, _COLOURS.get(text, "")) + space for text, space in cells)
        for number, part in enumerate(_folded(row[last], rest)):
            indent = begin if number == 0 else " " * (_width([*(natural[at] for at in kept), 0]))
            typer.echo((indent + _coloured(part, _COLOURS.get(row[last], ""))).rstrip())


def _folded(text: str, width: int) -> list[str]:
    """A text in lines of at most `width` columns, broken between words where that is possible."""
    from rich.cells import cell_len, chop_cells

    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(joined) <= width:
            lines[-1] = joined
        else:
            lines += chop_cells(word, width)
    return [line for line in lines if line] or [""]


def _coloured(text: str, style: str) -> str:
    """A text in a colour, where it goes to a terminal that has some (https://no-color.org)."""
    if not style or not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM", "") in ("", "dumb"):
        return text
    return f"\x1b[{_ANSI[style]}m{text}\x1b[0m"


def _width(widths: Iterable[int]) -> int:
    """Of a table: two columns have two spaces between them."""
    found = list(widths)
    return sum(found) + 2 * (len(found) - 1)


def print_fields(fields: Sequence[tuple[str, Any]]) -> None:
    """One thing, a line a field; empty fields are left out."""
    from rich.console import Console
    from rich.text import Text

    shown = [(name, value) for name, value in fields if value not in ("", None, (), [])]
    width = max((len(name) for name, _ in shown), default=0)
    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, soft_wrap=True)
    for name, value in shown:
        console.print(Text(f"{name:<{width}}  ", style="bold") + styled(value))


def joined(values: Iterable[Any]) -> str:
    """Several values in one cell."""
    return ", ".join(str(value) for value in values) or "-"


def moment(at: datetime | None) -> str:
    """A time as this machine's clock shows it, with its zone: `2026-11-28 21:04:27+01:00`."""
    return at.astimezone().isoformat(" ", "seconds") if at else "-"


def age(at: datetime | None, now: datetime | None = None) -> str:
    """How long ago something was, in one unit: `12 s`, `3 min`, `5 h`, `2 d`."""
    if at is None:
        return "-"
    seconds = max(0, int(((now or datetime.now(UTC)) - at).total_seconds()))
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def size(count: int) -> str:
    """A number of bytes, to three digits."""
    value, units = float(count), ("B", "kB", "MB", "GB", "TB", "PB")
    for unit in units:
        if value < 1_000 or unit == units[-1]:
            break
        value /= 1_000
    return f"{count} B" if unit == "B" else f"{value:.3g} {unit}"


def text_of(value: Any) -> str:
    """A value as one line of text, plain."""
    return plain(str(value)).replace("\n", "\\n")


def styled(value: Any) -> "Text":
    """The same, coloured if it is a state."""
    from rich.text import Text

    text = text_of(value)
    return Text(text, style=_COLOURS.get(text, ""))
