"""What the verbs share. Imports little: each `warren --help` loads it."""

from collections.abc import Callable
from typing import TypeVar

import typer

from warren_cli.errors import CliError
from warren_cli.terminal import echo

Made = TypeVar("Made")


def done(verb: str, work: Callable[[], Made]) -> Made:
    """Run the work of a verb; what it cannot do is one line on standard error and exit code 1."""
    try:
        return work()
    except CliError as error:
        echo(f"warren vpn {verb}: {error}", err=True)
        raise typer.Exit(1) from error
