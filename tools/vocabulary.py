"""Check names, comments, strings and documents against the vocabulary of docs/writing.md.

Reads the tracked Python and Markdown files. A file may hold as many findings as `tools/vocabulary-debt.txt` grants it (`path count` a
line); the debt only shrinks. Exit code 1
names each file that exceeds its grant.

Examples:

  python tools/vocabulary.py            check
  python tools/vocabulary.py --list     print every finding
  python tools/vocabulary.py --write    write the present findings as the debt
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEBT = ROOT / "tools" / "vocabulary-debt.txt"
EXEMPT = {"docs/writing.md", "tools/vocabulary.py", "CHANGELOG.md"}

# What is found, and what to write instead. Identifiers are split at `_` before they are matched.
WORDS = {
    r"tell|tells|telling|told|teller": "report, publish, send",
    r"hear|hears|heard": "receive, consume",
    r"(?:is|are|was|were|be|been|goes|went|go) away": "unavailable, unreachable, offline",
    r"anew": "re-created, again",
    r"beside": "next to, alongside",
    r"strangers?": "unauthenticated peer",
    r"knocks?|knocked": "retry, reconnect",
    r"the house|the door|doors?|rooms?": "package, module, layer",
    r"whoever": "the caller, the peer, any process that",
    r"in vain": "without result",
    r"ailments?|last words": "the field's term",
    r"is no (?:name|number|address|network|url|peer|policy|token|file|folder|key)": "invalid …: then the rule",
}
PATTERN = re.compile(r"(?<![a-z])(?:" + "|".join(WORDS) + r")(?![a-z])", re.IGNORECASE)


def findings(text: str) -> Iterator[tuple[int, str]]:
    """The line number and the matched words of each finding."""
    for number, line in enumerate(text.splitlines(), start=1):
        for match in PATTERN.finditer(line.replace("_", " ")):
            yield number, match.group()


def tracked() -> list[str]:
    """The files that are checked, by their path from the root."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    return [path for path in listed if path not in EXEMPT and (ROOT / path).is_file()]


def granted() -> dict[str, int]:
    """The number of findings that each file may still hold."""
    if not DEBT.exists():
        return {}
    return {path: int(count) for path, count in (line.split() for line in DEBT.read_text().splitlines())}


def main() -> int:
    """Check, list or write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print every finding")
    parser.add_argument("--write", action="store_true", help="write the present findings as the debt")
    options = parser.parse_args()
    found = {path: list(findings((ROOT / path).read_text())) for path in tracked()}
    counts = Counter({path: len(rows) for path, rows in found.items() if rows})
    if options.list:
        for path, rows in found.items():
            for number, words in rows:
                print(f"{path}:{number}: {words}")
    if options.write:
        DEBT.write_text("".join(f"{path} {counts[path]}\n" for path in sorted(counts)))
        return 0
    debt = granted()
    wrong = {path for path in counts.keys() | debt.keys() if counts[path] > debt.get(path, 0)}
    for path in sorted(wrong):
        print(f"{path}: {counts[path]} words outside of docs/writing.md, {debt.get(path, 0)} allowed", file=sys.stderr)
    slack = sum(debt.values()) - counts.total()
    print(
        f"vocabulary: {counts.total()} findings in {len(counts)} files"
        + (f"; the debt can shrink by {slack}" if slack > 0 else "")
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
