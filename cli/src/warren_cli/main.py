"""The command `warren`."""

from typing import Annotated

import typer

from warren_cli.command import OneLineGroup

app = typer.Typer(
    name="warren", cls=OneLineGroup, no_args_is_help=True, help="Manage a fleet of IPsec tunnels by events.", rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # 40 ms

        typer.echo(f"warren {version('warren-cli')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Manage a fleet of IPsec tunnels by events."""
