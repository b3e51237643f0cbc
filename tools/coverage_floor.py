"""Compare the line coverage of each package by its unit tests with the floor in `tools/coverage-floors.toml`.

Reads the JSON report of coverage.py, prints a table and returns 1 if a package is below its floor, was not measured, or has none.
A floor lies one percent below the measured value, because a few lines run only when tasks happen to meet.

Examples:

  python tools/coverage_floor.py build/coverage.json            check
  python tools/coverage_floor.py build/coverage.json --write    write new floors, after tests were added
"""

import argparse
import json
import math
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

FLOORS = Path(__file__).resolve().parent / "coverage-floors.toml"
HEAD = "# Line coverage by unit tests, in percent, that each package must reach. Written by tools/coverage_floor.py --write.\n"
MARGIN = 1
SOURCE = re.compile(r"(?:^|/)src/(warren_\w+)/")


def measured(report: Path) -> dict[str, float]:
    """The covered lines of each package, in percent of its statements."""
    covered: Counter[str] = Counter()
    statements: Counter[str] = Counter()
    for path, entry in json.loads(report.read_text())["files"].items():
        if found := SOURCE.search(path):
            covered[found[1]] += entry["summary"]["covered_lines"]
            statements[found[1]] += entry["summary"]["num_statements"]
    return {package: 100 * covered[package] / total for package, total in sorted(statements.items()) if total}


def compare(values: dict[str, float], floors: dict[str, int]) -> list[str]:
    """Print the table; returns what is wrong."""
    wrong = []
    print(f"{'package':<20} {'covered':>8} {'floor':>6}")
    for package in sorted(values.keys() | floors.keys()):
        value, floor = values.get(package), floors.get(package)
        shown = "-" if value is None else f"{value:.1f} %"
        print(f"{package:<20} {shown:>8} {'-' if floor is None else f'{floor} %':>6}")
        if value is None:
            wrong.append(f"{package}: no line of it was measured; remove its floor if the package is gone")
        elif floor is None:
            wrong.append(f"{package}: has no floor in tools/coverage-floors.toml; write one with --write")
        elif value < floor:
            wrong.append(f"{package}: {value:.1f} % of its lines are covered, the floor is {floor} %: add tests")
    return wrong


def main() -> int:
    """Check or write; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("report", type=Path, help="the JSON report of coverage.py")
    parser.add_argument("--write", action="store_true", help="write the present coverage as the floors")
    options = parser.parse_args()
    values = measured(options.report)
    if options.write:
        rows = [f"{package} = {max(math.floor(value) - MARGIN, 0)}\n" for package, value in values.items()]
        FLOORS.write_text(HEAD + "".join(rows))
    wrong = compare(values, tomllib.loads(FLOORS.read_text()))
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
