"""The verb `ca`: its options. What it runs is imported when it runs, on the machine that has the data folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from warren_cli.errors import CliError
from warren_cli.extras import needs

SHOW_HELP = """Show the CA of this control plane, its rotation, and the certificates of the listeners.

Examples:

  warren ca show

  warren ca show --data /srv/warren --json
"""
ROTATE_HELP = """Replace the CA: the new one is trusted next to the old one, then used, then the old one is withdrawn.

Agents follow the signed trust document within two minutes; no tunnel ends. A gateway that is offline for the whole overlap, and
a join token made before the new CA is used, need a new join token. `warren up`, or the container `certificates`, takes the steps.

Examples:

  warren ca rotate --data /srv/warren --overlap 7d

  warren ca rotate --finish --wait

  docker compose exec certificates warren ca rotate --data /var/lib/warren
"""

app = typer.Typer(no_args_is_help=True, help="The CA that vouches for the bus and the API server: show, rotate.")

Data = Annotated[
    Path | None,
    typer.Option(
        help="The data folder of `warren up`.",
        metavar="PATH",
        show_default="/var/lib/warren for root, else ~/.local/share/warren",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(root: typer.Typer) -> None:
    """Add `warren ca`."""
    root.add_typer(app, name="ca")


@app.command("show", help=SHOW_HELP)
def show_command(data: Data = None, as_json: AsJson = False) -> None:
    """The options of `warren ca show`."""
    with needs("warren ca", "warren-stack"):
        from warren_stack.tls.show import print_state, state_of
    print_state(_done("show", lambda: state_of(_folder(data))), as_json)


@app.command("rotate", help=ROTATE_HELP)
def rotate_command(
    data: Data = None,
    overlap: Annotated[
        str | None,
        typer.Option(help="How long both are trusted before the new one is used; 2m to 90d.", show_default="24h"),
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="End the overlap of the rotation in progress now.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay, and report each step, until it is complete.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """The options of `warren ca rotate`."""
    with needs("warren ca", "warren-stack"):
        from warren_cli.remote.options import confirm
        from warren_cli.remote.tokens import parse_lifetime
        from warren_stack.tls.show import begin, end, print_state, state_of, wait_until_steady
    if finish and overlap is not None:
        raise typer.BadParameter("--finish ends the overlap: give one of the two")
    folder = _folder(data)

    def work() -> Any:
        if finish:
            question = "Gateways that have been offline since it began need a new join token. End the overlap now?"
            confirm(question, yes or state_of(folder).phase != "announced")
            end(folder)
        else:
            confirm("Replace the CA? Join tokens made before the new one is used become invalid.", yes)
            begin(folder, parse_lifetime(overlap or "24h"))
        if wait:
            wait_until_steady(folder, lambda words: typer.echo(words, err=True))
        return state_of(folder)

    print_state(_done("rotate", work), as_json)


def _folder(data: Path | None) -> Path:
    from warren_cli.folders import default_data_folder

    return (data if data is not None else default_data_folder()).absolute()


def _done(verb: str, work: Any) -> Any:
    """One line and exit code 1 for what cannot be done, 2 for a wrong call."""
    try:
        return work()
    except CliError as error:
        typer.echo(f"warren ca {verb}: {error}", err=True)
        raise typer.Exit(2 if type(error).__name__ == "UsageError" else 1) from error
    except OSError as error:
        typer.echo(f"warren ca {verb}: {error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
