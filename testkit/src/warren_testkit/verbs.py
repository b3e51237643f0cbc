"""For tests of the operator's verbs: the smallest policy, a file of it, and the type of the fixture that runs a verb."""

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

MESH = "id: mesh\ntopology: {kind: mesh, members: [tag=branch]}\n"

Run = Callable[..., Result]
"""`run("policy", "list", code=0, stdin=None, **environment)`: the verb must end with this exit code."""


def write(folder: Path, name: str, text: str) -> str:
    """Write a file that nobody else may read, as a token's must be; returns its path as an argument of a command."""
    path = folder / name
    path.touch(0o600)
    path.write_text(text)
    return str(path)
