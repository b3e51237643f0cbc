"""`warren tunnels`: list and show, as both ends report them."""

from typing import Annotated

import typer

from warren_cli.remote import completion
from warren_cli.remote.client import path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, VerbGroup, connect, reported, with_trust
from warren_cli.remote.render import age, joined, moment, print_fields, print_json, print_table, size
from warren_contracts.commands import TunnelList
from warren_contracts.peers import PeerSummary
from warren_contracts.status import ChildSaStatus, Evidence, FleetTunnel, ReasonCode, TunnelState, TunnelStatus

app = typer.Typer(
    cls=VerbGroup,
    invoke_without_command=True,
    help="The tunnels of the fleet: list (also without a word), show.\n\nExample: warren tunnels list --state down",
)

Peer = Annotated[
    str | None,
    typer.Option("--peer", help="Only tunnels of this peer.", show_default=False, autocompletion=completion.peers),
]
State = Annotated[TunnelState | None, typer.Option("--state", help="Only tunnels in this state.", show_default=False)]

SAME_TIME_SECONDS = 5.0  # between the ends: one sees a tunnel come up a moment before the other


@app.callback()
@with_trust
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
        if not found and peer is not None:
            api.call("GET", path_of("peers", peer), PeerSummary)  # a mistyped peer is an error, not an empty list
    if as_json:
        print_json(found)
        return
    columns = ("TUNNEL", "STATE", "PEERS", "CIPHER", "IN", "OUT", "SINCE", "EVIDENCE", "REASON")
    none = "No tunnels match." if peer or state else "There are no tunnels."
    optional = ("PEERS", "CIPHER", "IN", "OUT", "EVIDENCE", "SINCE")
    print_table(columns, map(_row, found), none, optional=optional)


@app.command("show")
@reported
def show_command(
    name: Annotated[str, typer.Argument(metavar="TUNNEL", autocompletion=completion.tunnels)],
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
         ("disagreement", found.disagreement), ("reason", _silence(found)))
    )  # fmt: skip
    for peer, status in sorted(found.ends.items()):
        typer.echo()
        print_fields(_end(found, peer, status))


def _row(tunnel: FleetTunnel) -> tuple[object, ...]:
    """Traffic, cipher and times are of the first end that is current, as seen there; of stale ends only if there is no other."""
    current = [tunnel.ends[peer] for peer in sorted(tunnel.ends) if peer not in tunnel.stale]
    ends = current or [tunnel.ends[peer] for peer in sorted(tunnel.ends)]
    first = ends[0] if ends else None
    sa = next((sa for end in ends for sa in end.link.children), None)
    since = max((end.since for end in ends if end.since), default=None)
    reasons = {peer: _reason(status) for peer, status in sorted(tunnel.ends.items()) if peer not in tunnel.stale}
    said = [f"{peer}: {reason}" for peer, reason in reasons.items() if reason]
    return (
        tunnel.name, tunnel.state.value, joined(tunnel.peers), sa.cipher if sa else "-",
        size(first.traffic.bytes_in) if first else "-", size(first.traffic.bytes_out) if first else "-", moment(since),
        _evidence(max((end.evidence for end in ends if end.evidence.at), key=_seen, default=Evidence())),
        joined([*([tunnel.disagreement] if tunnel.disagreement else []), *said, *_stale_ends(tunnel)]),
    )  # fmt: skip


def _stale_ends(tunnel: FleetTunnel) -> list[str]:
    return [f"{peer}: stale ({_last_report(tunnel, peer)})" for peer in tunnel.stale]


def _silence(tunnel: FleetTunnel) -> str:
    """Why the state is unknown, if all ends are silent."""
    if not tunnel.ends or set(tunnel.ends) - set(tunnel.stale):
        return ""
    return "no end reports: " + "; ".join(f"{peer}: {_last_report(tunnel, peer)}" for peer in tunnel.stale)


def _last_report(tunnel: FleetTunnel, peer: str) -> str:
    at = tunnel.reported_at.get(peer)
    return f"last report {age(at)} ago" if at else "no report"


def _end(tunnel: FleetTunnel, peer: str, status: TunnelStatus) -> tuple[tuple[str, object], ...]:
    sas = [_sa(sa) for sa in status.link.children]
    traffic, link = status.traffic, status.link
    stale = peer in tunnel.stale
    return (
        ("end", peer),
        ("report", f"stale: {_last_report(tunnel, peer)}, what follows may have changed" if stale else ""),
        ("last state" if stale else "state", status.state.value),
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
        ("since", _since(tunnel, peer)),
        ("evidence", _evidence(status.evidence)),
        ("reason", _reason(status)),
    )


def _since(tunnel: FleetTunnel, peer: str) -> str:
    """When this end's state changed; why another end names another time."""
    own = tunnel.ends[peer].since
    earlier = {other: status.since for other, status in tunnel.ends.items() if other != peer and status.since}
    if own is not None and earlier:
        other, first = min(earlier.items(), key=lambda entry: entry[1])
        if (later := (own - first).total_seconds()) >= SAME_TIME_SECONDS:
            return f"{moment(own)} ({later:.0f} s after {other}: each end names when its own state changed)"
    return moment(own)


def _sa(sa: ChildSaStatus) -> str:
    name = f"{sa.child}: " if sa.child else ""
    algorithms = ", ".join(part for part in (sa.cipher, sa.key_exchange) if part)
    ends = ", ".join(
        f"{word} in {seconds} s" for word, seconds in (("rekeyed", sa.rekey_in), ("expires", sa.expires_in)) if seconds
    )
    return f"{name}{sa.spi_in} in, {sa.spi_out} out, {algorithms}" + (f", {ends}" if ends else "")


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


def register(root: typer.Typer) -> None:
    """Add `warren tunnels`."""
    root.add_typer(app, name="tunnels")
