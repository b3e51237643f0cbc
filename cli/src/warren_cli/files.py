"""Reading small files that somebody names: never more of them than they may hold."""

from pathlib import Path

from warren_cli.errors import CliError

MAX_TOKEN_FILE = 64_000
"""Bytes of a file with a token or keys: a hundred times what one holds, comments of a secret's store and all."""


def read_small(path: Path, what: str, limit: int = MAX_TOKEN_FILE) -> bytes:
    """The content of a file; a pipe or a device will do, as long as it ends. CliError names what is wrong with it."""
    try:
        with path.open("rb") as file:
            found = file.read(limit + 1)
    except OSError as error:
        raise CliError(f"{path}: {what} cannot be read ({error.strerror})") from None
    if len(found) > limit:
        raise CliError(f"{path}: more than {limit:,} bytes, the limit of a file of {what}")
    return found


def read_small_text(path: Path, what: str, limit: int = MAX_TOKEN_FILE) -> str:
    """The same, of text."""
    try:
        return read_small(path, what, limit).decode("utf-8")
    except UnicodeDecodeError:
        raise CliError(f"{path}: {what} cannot be read (not text)") from None
