"""Optional dependencies of a verb: without them it ends in one line that names the package to install."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def needs(command: str, distribution: str) -> Iterator[None]:
    """Guard the imports of a verb: a missing module is one line on standard error and exit code 1.

    `distribution` is what pip installs, such as `warren-stack[local]`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        typer.echo(f"{command}: {error.name} is not installed; pip install '{distribution}'", err=True)
        raise typer.Exit(1) from error
