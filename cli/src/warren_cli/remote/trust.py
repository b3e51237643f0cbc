"""`warren trust`: the keys that another system on the bus pins and verifies by."""

import typer

from warren_cli.remote.client import path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import print_json
from warren_contracts.base import read
from warren_contracts.bus_queries import FleetTrust
from warren_contracts.documents import TrustDocument

HELP = """Show the public key of the trust root, and the signing keys that it announces.

A system that reads signed documents on the bus pins the root key and verifies the trust document by it (docs/systems.md).

Examples:

  warren trust

  warren trust --json
"""


@reported
def trust_command(url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    with connect(url, token_file) as api:
        reply = api.call("GET", path_of("trust"), FleetTrust)
    if as_json:
        print_json(reply)
        return
    document = read(TrustDocument, reply.trust.payload)
    for name, value in (
        ("trust root", reply.root), ("policy", document.policy), ("registry", document.registry),
        ("epoch", str(document.epoch)), ("revision", str(document.revision)),
    ):  # fmt: skip
        typer.echo(f"{name:<12}{value}")


def register(root: typer.Typer) -> None:
    """Add `warren trust`."""
    root.command("trust", help=HELP)(trust_command)
