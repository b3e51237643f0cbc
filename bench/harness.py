"""Side-by-side measurement: ours and a rival alternate in one run, and the median of each is compared.

A row is one figure. `ratio` says how many times better ours is than the rival (below 1: worse), whichever way is better.
`target` is a bound on `ratio` where there is a rival, and on `ours` where there is none.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

MIN_RUNS = 5  # a median of fewer says little on a shared machine

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of `build/bench.json`."""

    name: str
    ours: float
    unit: str
    better: Better
    runs: int
    spread: dict[str, tuple[float, float]]  # lowest and highest of `ours` (and of `rival`)
    rival: float | None = None
    rival_name: str | None = None
    ratio: float | None = None
    target: float | None = None
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """Something that `make bench` runs: the names of its rows, and the function that measures them all."""

    names: tuple[str, ...]
    run: Callable[[], Iterable[Row]]
    about: str = field(default="")


def absolute(
    name: str, samples: Sequence[float], unit: str, *, better: Better, target: float | None, note: str = ""
) -> Row:
    """A figure without a rival; `target` bounds the median of `samples`."""
    middle = statistics.median(samples)
    met = None if target is None else (middle <= target if better == "lower" else middle >= target)
    spread = {"ours": _range(samples)}
    return Row(name, _short(middle), unit, better, len(samples), spread, target=target, met=met, note=note)


@dataclass(frozen=True, slots=True)
class Rival:
    """What ours is compared with, and its samples in the unit of ours."""

    name: str
    samples: Sequence[float]


def compared(
    name: str,
    ours: Sequence[float],
    rival: Rival,
    unit: str,
    *,
    better: Better,
    target: float | None,
    note: str = "",
) -> Row:
    """A figure next to its rival; `target` is the ratio that is wanted at least."""
    mine, theirs = statistics.median(ours), statistics.median(rival.samples)
    ratio = theirs / mine if better == "lower" else mine / theirs
    return Row(
        name, _short(mine), unit, better, min(len(ours), len(rival.samples)),
        {"ours": _range(ours), "rival": _range(rival.samples)}, _short(theirs), rival.name, _short(ratio),
        target, None if target is None else ratio >= target, note,
    )  # fmt: skip


def alternate(runs: int, ours: Callable[[], float], rival: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Measure both `runs` times, in turns, so that a slow minute of the machine hits both."""
    if runs < MIN_RUNS:
        raise ValueError(f"a comparison needs at least {MIN_RUNS} runs")
    pairs = [(ours(), rival()) for _ in range(runs)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def machine() -> str:
    """The machine in a few words, for the head of the table."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, Linux {platform.release().split('-')[0]}"


def write(rows: Sequence[Row], results: Path, readme: Path) -> None:
    """Write the list of rows, and the table in the README between its two markers.

    Rows of earlier runs that were not measured this time stay as they were: in the results and, since those are not
    kept with the sources, also in a table that a fresh checkout brings along.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    rows = _merged(results, rows)
    results.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    head, _, rest = readme.read_text().partition("<!-- table -->\n")
    old, _, tail = rest.partition("<!-- end -->\n")
    readme.write_text(f"{head}<!-- table -->\n{table(rows, old)}<!-- end -->\n{tail}")


def _merged(results: Path, rows: Sequence[Row]) -> list[Row]:
    fresh = {row.name: row for row in rows}
    old = [Row(**entry) for entry in json.loads(results.read_text())] if results.exists() else []
    kept = [fresh.pop(row.name, row) for row in old]
    return kept + list(fresh.values())


def table(rows: Sequence[Row], old: str = "") -> str:
    """The rows as a Markdown table, in the order of the `old` one, whose other rows stay."""
    lines_by_name = {line.split("`")[1]: line for line in old.splitlines() if line.startswith("| `")}
    lines_by_name |= {row.name: "| " + " | ".join(_cells(row)) + " |" for row in rows}
    lines = [f"Measured on {machine()}.", "", "| figure | ours | rival | ratio | target | met | runs | note |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    return "\n".join([*lines, *lines_by_name.values()]) + "\n"


def _cells(row: Row) -> list[str]:
    low, high = row.spread["ours"]
    rival = f"{row.rival} {row.unit} ({row.rival_name})" if row.rival is not None else ""
    sign = ("≤" if row.better == "lower" else "≥") if row.rival is None else "≥"
    target = "" if row.target is None else f"{sign} {round(row.target, 3)}{' x' if row.rival is not None else ''}"
    met = {None: "", True: "yes", False: "**no**"}[row.met]
    ratio = "" if row.ratio is None else f"{row.ratio} x"
    return [
        f"`{row.name}`",
        f"{row.ours} {row.unit} ({low} to {high})",
        rival,
        ratio,
        target,
        met,
        str(row.runs),
        row.note,
    ]


def _range(samples: Sequence[float]) -> tuple[float, float]:
    return _short(min(samples)), _short(max(samples))


def _short(value: float) -> float:
    return float(f"{value:.4g}")
