"""Check that no module is longer than 350 lines, unless `tools/module-limits.toml` grants it more and gives the reason.

A module is one idea. Past the limit there usually is a second one, which belongs in a module of its own.

Example:

  python tools/module_limits.py
"""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_LINES = 350


def main() -> int:
    """Print each module beyond its limit; returns the exit code."""
    granted = tomllib.loads((ROOT / "tools" / "module-limits.toml").read_text())
    paths = subprocess.run(
        ["git", "ls-files", "*.py"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in paths if (ROOT / path).is_file()}
    wrong = [
        f"{path}: {lines} lines, the limit is {limit}: find the second idea in it"
        for path, lines in lengths.items()
        if lines > (limit := granted.get(path, {}).get("lines", LIMIT_LINES))
    ]
    wrong += [
        f"{path}: no longer needs its entry in tools/module-limits.toml"
        for path in granted
        if lengths.get(path, 0) <= LIMIT_LINES
    ]
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
