"""The command `warren`."""

import typer

from warren_cli import local_commands

app = typer.Typer(name="warren", no_args_is_help=True, help="Manage a fleet of IPsec tunnels by events.")


@app.callback()
def root() -> None:
    """Manage a fleet of IPsec tunnels by events."""


local_commands.register(app)
