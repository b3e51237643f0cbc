"""The extra [local]: an operator's installation is without it, and is told so in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def needs_local(command: str) -> Iterator[None]:
    """Around the imports of a command that needs the extra: without it, one line on standard error and exit code 1."""
    try:
        yield
    except ModuleNotFoundError as error:
        typer.echo(f"{command}: {error.name} is not installed; pip install 'warren-cli[local]'", err=True)
        raise typer.Exit(1) from error
