"""`warren explain`: why a tunnel is not up, from both ends together, and what to do."""

import typer

from warren_cli.remote import completion
from warren_cli.remote.client import ApiClient, path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import print_fields, print_json
from warren_contracts.explanation import Explanation


def explanation_of(api: ApiClient, tunnel: str) -> Explanation:
    """Why a tunnel is not up; NotFound for one that no peer has reported and no policy gives."""
    return api.call("GET", path_of("tunnels", tunnel, "explanation"), Explanation)


@reported
def explain_command(
    name: completion.TunnelName,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Say why a tunnel is not up, and what to do. Example: warren explain hub+spoke-1"""
    with connect(url, token_file) as api:
        found = explanation_of(api, name)
    if as_json:
        print_json(found)
        return
    fields = (
        ("tunnel", found.tunnel),
        ("state", found.state.value),
        ("cause", found.cause.value),
        ("why", found.sentence),
    )
    print_fields((*fields, ("do", found.action), *(("known", fact) for fact in found.facts)))


def register(root: typer.Typer) -> None:
    """Add `warren explain`."""
    root.command("explain")(explain_command)
