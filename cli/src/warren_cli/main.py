"""The command `warren`."""

import typer

from warren_cli.command import OneLineGroup
from warren_cli.ike import commands as ike
from warren_cli.remote import register as operator_verbs

app = typer.Typer(
    name="warren", cls=OneLineGroup, no_args_is_help=True, help="Manage a fleet of IPsec tunnels by events."
)


@app.callback()
def root() -> None:
    """Manage a fleet of IPsec tunnels by events."""


operator_verbs.register(app)
app.add_typer(ike.app, name="ike")
