"""`warren route`: which tunnel a destination takes from which peer, and why none. From what policies and peers state."""

import socket
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

import typer

from warren_cli.errors import CliError
from warren_cli.remote import completion
from warren_cli.remote.client import path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import joined, print_json, print_table
from warren_contracts.addresses import IPAddress
from warren_contracts.base import Document
from warren_contracts.commands import PeerList, PolicyList, StoredPolicy
from warren_contracts.names import PeerId
from warren_contracts.peers import PeerSummary
from warren_contracts.policy import PublishedPolicy
from warren_intent.route import Route, route


class ShownRoute(Document):
    """One line of the answer, as JSON."""

    peer: PeerId
    address: IPAddress
    verdict: str
    tunnel: str | None
    to: str
    standbys: tuple[str, ...]
    detail: str


@reported
def route_command(
    destination: Annotated[str, typer.Argument(metavar="URL|HOST", help="A URL, a host name or an address.")],
    peer: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="PEER", help="Only from this peer.", show_default=False, autocompletion=completion.peers
        ),
    ] = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show which tunnel a destination takes from each peer, and why none. Example: warren route https://10.0.0.5/ --from spoke-1"""
    addresses = addresses_of(destination)
    with connect(url, token_file) as api:
        stored: list[StoredPolicy] = list(api.pages(path_of("policies"), PolicyList, "policies"))
        peers: list[PeerSummary] = list(api.pages(path_of("peers"), PeerList, "peers"))
    policies = [PublishedPolicy(revision=it.revision, policy=it.policy) for it in stored]
    directory = {it.peer: it.record for it in peers if not it.revoked}
    if peer is not None and peer not in directory:
        raise CliError(f"unknown peer {peer}: `warren peers` lists them")
    sources = sorted(directory) if peer is None else [peer]
    found = [route(policies, directory, source, address) for source in sources for address in addresses]
    if as_json:
        print_json([_shown(it) for it in found])
        return
    columns = ("FROM", "ADDRESS", "TUNNEL", "TO", "STANDBY", "WHY")
    rows = (
        (it.peer, it.address, it.tunnel or it.verdict.value, it.to or "-", joined(it.standbys), it.detail)
        for it in found
    )
    print_table(columns, rows, "There are no peers: make a join token with `warren token create`.")


def addresses_of(destination: str) -> list[IPAddress]:
    """The addresses of a URL's host, of a host name, or an address itself.

    Raises:
        CliError: there is no host, or its name does not resolve here.
    """
    try:
        host = urlsplit(destination if "//" in destination else f"//{destination}").hostname
    except ValueError:
        host = None
    for text in (destination, host or ""):
        try:
            return [ip_address(text)]
        except ValueError:
            continue
    if not host:
        raise CliError(f"no host in {destination!r}; examples: https://intranet.example/, 10.0.0.5")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CliError(f"{host} does not resolve on this machine ({error}): use an address") from None
    return sorted({ip_address(entry[4][0]) for entry in found}, key=lambda it: (it.version, int(it)))


def _shown(found: Route) -> ShownRoute:
    return ShownRoute(
        peer=found.peer, address=found.address, verdict=found.verdict.value, tunnel=found.tunnel, to=found.to,
        standbys=found.standbys, detail=found.detail,
    )  # fmt: skip


def register(root: typer.Typer) -> None:
    """Add `warren route`."""
    root.command("route")(route_command)
