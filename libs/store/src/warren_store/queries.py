"""Named queries in `.sql` files: SQL stays SQL, and every statement has a name and a comment.

A statement begins with a line `-- name: <name>` and ends at the next one:

    -- name: peer_by_id
    -- One peer, revoked or not.
    SELECT * FROM peer WHERE id = $1;
"""

import re
from collections.abc import Iterator, Mapping
from importlib import resources

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)[ \t]*$", re.MULTILINE)


class Queries(Mapping[str, str]):
    """The statements of one file by name; a missing name is a KeyError that lists the existing ones."""

    def __init__(self, statements: Mapping[str, str]) -> None:
        self._statements = dict(statements)

    def __getitem__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise KeyError(f"unknown statement {name!r}; known are {', '.join(sorted(self._statements))}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


def parse_queries(text: str) -> Queries:
    """The statements of `text`; ValueError for SQL before the first name, a repeated name or an empty statement."""
    parts = _NAME.split(text)
    if _without_comments(parts[0]):
        raise ValueError("SQL before the first `-- name:` line")
    statements: dict[str, str] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name in statements:
            raise ValueError(f"the name {name!r} repeats")
        if not _without_comments(body):
            raise ValueError(f"the statement {name!r} is empty")
        statements[name] = f"-- name: {name}\n{body.strip()}"  # the name is visible in pg_stat_activity
    return Queries(statements)


def load_queries(package: str, file: str) -> Queries:
    """The statements of `sql/<file>` inside `package`."""
    return parse_queries((resources.files(package) / "sql" / file).read_text("utf-8"))


def _without_comments(text: str) -> str:
    return "".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--"))
