"""Check names, comments, strings and documents against the vocabulary of docs/writing.md.

Reads the tracked files that people write by hand: code, documents, the web page, units, settings, queries. Prints each finding with
what to write instead. Exit code 1 if there is one.

Example:

  python tools/vocabulary.py
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    "*.py", "*.md", "*.ts", "*.svelte", "*.css", "*.html", "*.js", "*.mjs", "*.sql", "*.sh", "*.toml", "*.yaml", "*.conf",
    "*.service", "*Dockerfile", "Makefile", ".ci/run",
    ":!*/migrations/*.sql",  # their text is compared with what a database has applied
)  # fmt: skip
EXEMPT = {"docs/writing.md", "tools/vocabulary.py", "CHANGELOG.md"}

# What is found, and what to write instead. Identifiers are split at `_` before they are matched; `file.tell()` and
# "there is no policy x" are not what is meant.
WORDS = {
    r"(?<!\.)tell|tells|telling|told|teller": "report, publish, send",
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
    r"(?<!there )is no (?:name|number|address|network|url|peer|policy|token|file|folder|key)": "invalid …: then the rule",
}
PATTERNS = {re.compile(rf"(?<![a-z])(?:{words})(?![a-z])", re.IGNORECASE): instead for words, instead in WORDS.items()}

ANY = re.compile("|".join(pattern.pattern for pattern in PATTERNS), re.IGNORECASE)  # one search where nothing is found


def findings(text: str) -> Iterator[tuple[int, str, str]]:
    """The line number, the matched words and the replacement of each finding."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.replace("_", " ")
        if ANY.search(words) is None:
            continue
        for pattern, instead in PATTERNS.items():
            for match in pattern.finditer(words):
                yield number, match.group(), instead


def tracked() -> list[str]:
    """The files that are checked, by their path from the root."""
    listed = subprocess.run(
        ["git", "ls-files", *FILES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    return [path for path in listed if path not in EXEMPT and (ROOT / path).is_file()]


def main() -> int:
    """Print every finding; returns the exit code."""
    found = [
        f"{path}:{number}: `{words}` is outside of docs/writing.md; write: {instead}"
        for path in tracked()
        for number, words, instead in findings((ROOT / path).read_text())
    ]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
