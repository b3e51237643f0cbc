"""`warren health`: whether everything is there."""

import typer

from warren_cli.remote.client import ApiClient, health_response, parse_body
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import print_json, print_table
from warren_contracts.commands import Health


@reported
def health_command(url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """Show whether every part is ready; exit code 1 when one is not. Example: warren health --json"""
    with connect(url, token_file, needs_token=False) as api:  # names and booleans need no token
        health = ask_health(api)
    if as_json:
        print_json(health)
    else:
        parts = ((name, "yes" if up else "no", health.detail.get(name, "")) for name, up in health.dependencies.items())
        rows = (*parts, *((name, "look", text) for name, text in health.remarks.items()))
        print_table(("PART", "READY", ""), rows, "The API server depends on nothing.")
    raise typer.Exit(0 if health.ready else 1)


def ask_health(api: ApiClient) -> Health:
    """The health of everything, ready or not. Raises RefusedError or ApiUnavailableError."""
    return parse_body(health_response(api), Health)


def register(root: typer.Typer) -> None:
    """Add `warren health`."""
    root.command("health")(health_command)
