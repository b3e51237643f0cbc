"""Options that every verb has, and what happens to its errors."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

from warren_cli.command import FAILED, INTERRUPTED, USAGE
from warren_cli.errors import CliError
from warren_cli.remote.client import DEFAULT_URL, ApiClient, UsageError, read_token
from warren_cli.remote.render import echo

P = ParamSpec("P")
R = TypeVar("R")

Url = Annotated[str, typer.Option("--url", envvar="WARREN_URL", help="The API server.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", envvar="WARREN_TOKEN_FILE", show_default=False,
        help="File with a bearer token; without one, the token that `warren up` made on this machine.",
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

URL = DEFAULT_URL


def connect(url: str, token_file: Path | None) -> ApiClient:
    """A client with the token of the file."""
    return ApiClient(url, read_token(token_file))


def reported(verb: Callable[P, R]) -> Callable[P, R]:
    """One line and exit code 1 for an error or a wrong value, 2 for a wrong call, 130 and silence for Ctrl-C."""

    @functools.wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except CliError as error:
            echo(f"warren: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(USAGE if isinstance(error, UsageError) else FAILED) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    return guarded
