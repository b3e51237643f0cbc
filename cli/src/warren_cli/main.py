"""The command `warren`."""

import typer

app = typer.Typer(name="warren", no_args_is_help=True, help="Manage a fleet of IPsec tunnels by events.")


@app.callback()
def root() -> None:
    """Manage a fleet of IPsec tunnels by events."""
