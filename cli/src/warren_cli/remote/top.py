"""`warren top`: the tunnels of the fleet live in a terminal, worst first."""

from typing import Annotated

import typer

from warren_cli.errors import CliError
from warren_cli.extras import needs
from warren_cli.remote.live_tunnels import ChangeWatch, LiveTunnels
from warren_cli.remote.options import URL, TokenFile, Url, connect, reported
from warren_cli.remote.tunnel_rows import ordered
from warren_contracts.tunnel_query import InvalidQueryError, TunnelQuery

HELP = """Watch the tunnels of the fleet live, worst first, until q or Ctrl-C.

Keys: / edits the filter, s changes the order, q ends.

Example: warren top --filter 'tag:branch -state:up'
"""


@reported
def top_command(
    query: Annotated[
        str, typer.Option("--filter", help="Only tunnels that match, as of `warren tunnels`.", show_default=False)
    ] = "",
    sort: Annotated[str, typer.Option("--sort", help="As of `warren tunnels`.")] = "state,since",
    url: Url = URL,
    token_file: TokenFile = None,
) -> None:
    """The options of `warren top`."""
    try:
        asked = TunnelQuery(query)
    except InvalidQueryError as error:
        raise CliError(f"--filter: {error}") from None
    ordered((), sort)
    with needs("warren top", "warren-cli[top]"):
        from warren_cli.remote.top_screen import FleetTop
    with connect(url, token_file) as api:
        live = LiveTunnels(api, asked)
        live.refresh()  # a wrong token or URL is an error before the screen is taken
        screen = FleetTop(live, ChangeWatch(lambda: connect(url, token_file)), sort)
        screen.run()
    if screen.failure is not None:
        raise screen.failure


def register(root: typer.Typer) -> None:
    """Add `warren top`."""
    root.command("top", help=HELP)(top_command)
