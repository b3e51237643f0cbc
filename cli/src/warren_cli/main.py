"""The command `warren`."""

import typer

from warren_cli import ike, local_commands
from warren_cli.command import OneLineGroup
from warren_cli.deploy import commands as deploy
from warren_cli.remote import register as operator_verbs

app = typer.Typer(
    name="warren", cls=OneLineGroup, no_args_is_help=True, help="Manage a fleet of IPsec tunnels by events."
)


@app.callback()
def root() -> None:
    """Manage a fleet of IPsec tunnels by events."""


operator_verbs.register(app)
local_commands.register(app)
app.add_typer(ike.app, name="ike")
app.add_typer(deploy.app, name="deploy")
