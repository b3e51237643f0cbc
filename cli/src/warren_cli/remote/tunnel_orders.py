"""`warren tunnels rekey` and `restart`: what the agent of one end does with a running tunnel."""

from typing import Annotated

import typer

from warren_cli.remote import completion
from warren_cli.remote.client import ApiClient, UsageError, path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, Yes, confirm, connect, reported
from warren_cli.remote.render import print_json
from warren_cli.terminal import echo
from warren_contracts.commands import TunnelAction, TunnelOrdered
from warren_contracts.names import IKE_SA, child_of, child_sa
from warren_contracts.status import FleetTunnel

Tunnel = Annotated[str, typer.Argument(metavar="TUNNEL", autocompletion=completion.tunnels)]
End = Annotated[
    str | None,
    typer.Option(
        "--peer", help="The end whose agent does it; by default the initiator's, if it is online.", show_default=False,
        autocompletion=completion.peers,
    ),
]  # fmt: skip
Child = Annotated[
    str | None,
    typer.Option("--child", metavar="NAME", help="Only the CHILD_SAs of this child of the tunnel.", show_default=False),
]
Ike = Annotated[bool, typer.Option("--ike", help="Only the IKE_SA.")]


@reported
def rekey_command(
    name: Tunnel, peer: End = None, child: Child = None, ike: Ike = False, url: Url = URL, token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Give the SAs of a tunnel, or one of them, new keys, without an interruption. Example: warren tunnels rekey hub+spoke-1"""
    if ike and child is not None:
        raise UsageError("give --child or --ike; without both, all SAs of the tunnel get new keys")
    sa = IKE_SA if ike else _sa_of(child)
    with connect(url, token_file) as api:
        _show(_order(api, name, TunnelAction.REKEY, peer, sa), as_json)


@reported
def restart_command(
    name: Tunnel, peer: End = None, child: Child = None, yes: Yes = False, url: Url = URL, token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Close a tunnel's SAs and negotiate again: its traffic stops for that long. Example: warren tunnels restart hub+spoke-1 --yes"""
    sa = _sa_of(child)
    with connect(url, token_file) as api:
        if not yes:
            found = api.call(
                "GET", path_of("tunnels", name), FleetTunnel
            )  # a mistyped name is an error before the question
            confirm(f"Restart {name}, which is {found.state.value}?", yes)
        _show(_order(api, name, TunnelAction.RESTART, peer, sa), as_json)


def _sa_of(child: str | None) -> str | None:
    return None if child is None else child_sa(child)


def _order(api: ApiClient, name: str, action: TunnelAction, peer: str | None, sa: str | None) -> TunnelOrdered:
    return api.call("POST", path_of("tunnels", name, action.value), TunnelOrdered, peer=peer, sa=sa)


def _show(ordered: TunnelOrdered, as_json: bool) -> None:
    if as_json:
        print_json(ordered)
    else:
        child = child_of(ordered.sa or "")
        what = f"its CHILD_SAs of {child}" if child else "its IKE_SA" if ordered.sa == IKE_SA else "it"
        echo(
            f"{ordered.tunnel}: the agent of {ordered.peer} is to {ordered.action} {what};"
            f" see `warren tunnels show {ordered.tunnel}`"
        )


def register(app: typer.Typer) -> None:
    """Add both to `warren tunnels`."""
    app.command("rekey")(rekey_command)
    app.command("restart")(restart_command)
