"""`warren sign-in`: a link to the web page that signs a browser in, so that no token is typed there."""

import typer

from warren_cli.remote.client import path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import print_json
from warren_contracts.http_bodies import SignInCode

HELP = """Print a link that opens the web page and signs in, once, within a minute, with the role of this command's token.

Examples:

  warren sign-in

  warren sign-in --token-file viewer.token
"""


@reported
def sign_in_command(url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    with connect(url, token_file) as api:
        reply = api.call("POST", path_of("session", "codes"), SignInCode)
    if as_json:
        print_json(reply)
    else:
        typer.echo(f"{url.rstrip('/')}{reply.path}")


def register(root: typer.Typer) -> None:
    """Add `warren sign-in`."""
    root.command("sign-in", help=HELP)(sign_in_command)
