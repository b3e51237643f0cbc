"""`warren tunnels`: list and show, as both ends report them."""

from typing import Annotated

import typer

from warren_cli.remote.client import path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import age, joined, moment, print_fields, print_json, print_table, size
from warren_contracts.commands import TunnelList
from warren_contracts.status import ChildSaStatus, Evidence, FleetTunnel, ReasonCode, TunnelState, TunnelStatus

app = typer.Typer(
    invoke_without_command=True,
    help="The tunnels of the fleet: list (also without a word), show.\n\nExample: warren tunnels list --state down",
)

Peer = Annotated[str | None, typer.Option("--peer", help="Only tunnels of this peer.", show_default=False)]
State = Annotated[TunnelState | None, typer.Option("--state", help="Only tunnels in this state.", show_default=False)]


@app.callback()
def tunnels(
    context: typer.Context, url: Url = URL, token_file: TokenFile = None, peer: Peer = None, state: State = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    if context.invoked_subcommand is None:
        list_command(url, token_file, peer, state, as_json)


@app.command("list")
@reported
def list_command(
    url: Url = URL, token_file: TokenFile = None, peer: Peer = None, state: State = None, as_json: AsJson = False
) -> None:
    """List the tunnels. Example: warren tunnels list --peer spoke-1 --json"""
    query = {"peer": peer, "state": state.value if state else None}
    with connect(url, token_file) as api:
        found: list[FleetTunnel] = list(api.pages(path_of("tunnels"), TunnelList, "tunnels", **query))
    if as_json:
        print_json(found)
        return
    columns = ("TUNNEL", "STATE", "PEERS", "CIPHER", "IN", "OUT", "SINCE", "EVIDENCE", "REASON")
    print_table(columns, map(_row, found), "There are no tunnels.")


@app.command("show")
@reported
def show_command(
    name: Annotated[str, typer.Argument(metavar="TUNNEL")],
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one tunnel, with what each end says. Example: warren tunnels show hub+spoke-1"""
    with connect(url, token_file) as api:
        found = api.call("GET", path_of("tunnels", name), FleetTunnel)
    if as_json:
        print_json(found)
        return
    print_fields(
        (("tunnel", found.name), ("state", found.state.value), ("peers", joined(found.peers)),
         ("disagreement", found.disagreement))
    )  # fmt: skip
    for peer, status in sorted(found.ends.items()):
        typer.echo()
        print_fields(_end(peer, status))


def _row(tunnel: FleetTunnel) -> tuple[object, ...]:
    ends = [tunnel.ends[peer] for peer in sorted(tunnel.ends)]
    first = ends[0] if ends else None
    sa = next((sa for end in ends for sa in end.link.children), None)
    since = max((end.since for end in ends if end.since), default=None)
    return (
        tunnel.name, tunnel.state.value, joined(tunnel.peers), sa.cipher if sa else "-",
        size(first.traffic.bytes_in) if first else "-", size(first.traffic.bytes_out) if first else "-", moment(since),
        _evidence(max((end.evidence for end in ends if end.evidence.at), key=_seen, default=Evidence())),
        joined([*([tunnel.disagreement] if tunnel.disagreement else []), *sorted({_reason(end) for end in ends} - {""})]),
    )  # fmt: skip


def _end(peer: str, status: TunnelStatus) -> tuple[tuple[str, object], ...]:
    sas = [_sa(sa) for sa in status.link.children]
    traffic, link = status.traffic, status.link
    return (
        ("end", peer),
        ("state", status.state.value),
        ("initiator", "yes" if status.initiator else "no"),
        ("addresses", " to ".join(part for part in (link.local_address, link.remote_address) if part)),
        ("ike", link.ike_cipher),
        ("virtual address", joined(link.local_vips)),
        ("assigned", joined(link.remote_vips)),
        *(("sa", sa) for sa in sas),
        *(("selectors", text) for text in _selectors(status)),
        ("in", f"{size(traffic.bytes_in)}, {traffic.packets_in} packets"),
        ("out", f"{size(traffic.bytes_out)}, {traffic.packets_out} packets"),
        ("policy", status.policy),
        ("since", moment(status.since)),
        ("evidence", _evidence(status.evidence)),
        ("reason", _reason(status)),
    )


def _sa(sa: ChildSaStatus) -> str:
    name = f"{sa.child}: " if sa.child else ""
    algorithms = ", ".join(part for part in (sa.cipher, sa.key_exchange) if part)
    return f"{name}{sa.spi_in} in, {sa.spi_out} out, {algorithms}"


def _selectors(status: TunnelStatus) -> list[str]:
    return [f"{joined(sa.local_ts)} to {joined(sa.remote_ts)}" for sa in status.link.children]


def _seen(evidence: Evidence) -> float:
    return evidence.at.timestamp() if evidence.at else 0.0


def _evidence(evidence: Evidence) -> str:
    """What shows that packets pass, and how old it is."""
    return evidence.kind.value if evidence.at is None else f"{evidence.kind.value} {age(evidence.at)} ago"


def _reason(status: TunnelStatus) -> str:
    if status.reason is ReasonCode.NONE:
        return ""
    return f"{status.reason.value} ({status.detail})" if status.detail else status.reason.value
