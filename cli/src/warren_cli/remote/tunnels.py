"""`warren tunnels`: list and show, as both ends report them; history, rekey, restart."""

import csv
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from warren_cli.errors import CliError
from warren_cli.remote import completion, tunnel_history, tunnel_orders
from warren_cli.remote.client import ApiClient, path_of
from warren_cli.remote.explain import explanation_of
from warren_cli.remote.live_tunnels import REFRESH_S, ChangeWatch, LiveTunnels
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, VerbGroup, connect, reported, with_trust
from warren_cli.remote.render import joined, moment, print_fields, print_json, print_table, print_yaml, size
from warren_cli.remote.tunnel_rows import (
    COLUMNS,
    CSV_COLUMNS,
    WIDE_COLUMNS,
    ShownTunnel,
    cells,
    csv_cells,
    evidence_text,
    last_report,
    ordered,
    reason_text,
    row_of,
)  # fmt: skip
from warren_cli.terminal import echo, plain
from warren_contracts.peers import PeerSummary
from warren_contracts.status import ChildSaStatus, FleetTunnel, TunnelState, TunnelStatus
from warren_contracts.tunnel_query import InvalidQueryError, TunnelQuery

app = typer.Typer(
    cls=VerbGroup,
    invoke_without_command=True,
    help="The tunnels of the fleet: list (also without a word), show, history, rekey, restart.\n\n"
    "Example: warren tunnels --filter 'state:down tag:branch'",
)


class Output(StrEnum):
    """What `--output` prints."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"
    NAME = "name"


Peer = Annotated[
    str | None,
    typer.Option(
        "--peer", help="Only tunnels of which this peer is an end.", show_default=False, autocompletion=completion.peers
    ),
]
State = Annotated[TunnelState | None, typer.Option("--state", help="Only tunnels in this state.", show_default=False)]
Filter = Annotated[
    str,
    typer.Option(
        "--filter", help="Only tunnels that match, such as 'state:down tag:branch age:>1h -policy:lab'.", show_default=False
    ),
]  # fmt: skip
Sort = Annotated[
    str, typer.Option("--sort", help="By name, state (worst first), peers, policy, since, in, out, rekeys, restarts, evidence or"
                      " reason; several by comma, - reverses.")
]  # fmt: skip
OutputFormat = Annotated[Output, typer.Option("--output", "-o", help="What is printed.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Print again at every change, until Ctrl-C.")]

SAME_TIME_SECONDS = 5.0  # between the ends: one sees a tunnel come up a moment before the other
SETTLE_S = 0.5  # between two prints of --watch
_FORMULA = re.compile(r"(^|;)(\s*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])")


@app.callback()
@with_trust
def tunnels(
    context: typer.Context, url: Url = URL, token_file: TokenFile = None, peer: Peer = None, state: State = None,
    query: Filter = "", sort: Sort = "name", output: OutputFormat = Output.TABLE, watch: Watch = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    if context.invoked_subcommand is None:
        list_command(url, token_file, peer, state, query, sort, output, watch, as_json)


@app.command("list")
@reported
def list_command(
    url: Url = URL, token_file: TokenFile = None, peer: Peer = None, state: State = None, query: Filter = "", sort: Sort = "name",
    output: OutputFormat = Output.TABLE, watch: Watch = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """List the tunnels. Example: warren tunnels list --filter 'state:down tag:branch age:>1h' --sort since -o wide"""
    chosen = Output.JSON if as_json else output
    try:
        asked = TunnelQuery(query)
    except InvalidQueryError as error:
        raise CliError(f"--filter: {error}") from None
    ordered((), sort)  # a wrong key is refused before anything is asked for
    with connect(url, token_file) as api:
        live = LiveTunnels(api, asked, peer=peer, state=state.value if state else None)
        live.refresh()
        found = _rows(live, sort)
        if not found and peer is not None:
            api.call("GET", path_of("peers", peer), PeerSummary)  # a mistyped peer is an error, not an empty list
        none = "No tunnels match." if peer or state or query else "There are no tunnels."
        _print(found, chosen, none)
        if watch:
            _watch(live, lambda: connect(url, token_file), lambda: _print(_rows(live, sort), chosen, none))


def _rows(live: LiveTunnels, sort: str) -> list[ShownTunnel]:
    now = datetime.now(UTC)
    return ordered([row_of(tunnel, now) for tunnel in live.matching(now)], sort)


def _watch(live: LiveTunnels, connect_again: Callable[[], ApiClient], show: Callable[[], None]) -> None:
    """Show again whenever something has changed; on a terminal in place of what was there."""
    changes = ChangeWatch(connect_again)
    changes.start()
    while True:
        live.update(changes.wait(REFRESH_S))
        if sys.stdout.isatty():
            typer.echo("\x1b[H\x1b[2J", nl=False)
        else:
            typer.echo()
        show()
        sys.stdout.flush()
        changes.pause(SETTLE_S)


def _print(rows: Sequence[ShownTunnel], output: Output, none: str) -> None:
    now = datetime.now(UTC)
    match output:
        case Output.JSON:
            print_json([row.tunnel for row in rows])
        case Output.YAML:
            print_yaml([row.tunnel for row in rows])
        case Output.NAME:
            for row in rows:
                echo(row.tunnel.name)
        case Output.CSV:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(CSV_COLUMNS)
            writer.writerows(map(csv_line, rows))
        case _:
            wide = output is Output.WIDE
            optional = ("PEERS", "CIPHER", "IN", "OUT", "EVIDENCE", "SINCE")
            shown = [cells(row, now, wide=wide) for row in rows]
            print_table(WIDE_COLUMNS if wide else COLUMNS, shown, none, optional=() if wide else optional)


def csv_line(row: ShownTunnel) -> list[str]:
    """One line of CSV. An apostrophe is before what a spreadsheet would compute: the text was written by others.

    Also behind a semicolon, which ends a cell where the comma is the decimal separator.
    """
    texts = [plain(str(value)).replace("\n", " ") for value in csv_cells(row)]
    return [_FORMULA.sub(r"\1'\2", text) for text in texts]


@app.command("show")
@reported
def show_command(
    name: completion.TunnelName,
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
        why = None if found.state is TunnelState.UP else explanation_of(api, name)
    print_fields(
        (("tunnel", found.name), ("state", found.state.value), ("peers", joined(found.peers)),
         ("disagreement", found.disagreement), ("reason", _silence(found)),
         ("why", why.sentence if why else ""), ("do", why.action if why else ""))
    )  # fmt: skip
    for peer, status in sorted(found.ends.items()):
        typer.echo()
        print_fields(_end(found, peer, status))


def _silence(tunnel: FleetTunnel) -> str:
    """Why the state is unknown, if all ends are silent."""
    if not tunnel.ends or set(tunnel.ends) - set(tunnel.stale):
        return ""
    return "no end reports: " + "; ".join(f"{peer}: {last_report(tunnel, peer)}" for peer in tunnel.stale)


def _end(tunnel: FleetTunnel, peer: str, status: TunnelStatus) -> tuple[tuple[str, object], ...]:
    sas = [_sa(sa) for sa in status.link.children]
    traffic, link = status.traffic, status.link
    stale = peer in tunnel.stale
    return (
        ("end", peer),
        ("report", f"stale: {last_report(tunnel, peer)}, what follows may have changed" if stale else ""),
        ("last state" if stale else "state", status.state.value),
        ("intent", "stale: the registry's digests do not arrive there" if peer in tunnel.unconfirmed else ""),
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
        ("evidence", evidence_text(status.evidence)),
        ("reason", reason_text(status)),
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


def register(root: typer.Typer) -> None:
    """Add `warren tunnels`."""
    tunnel_history.register(app)
    tunnel_orders.register(app)
    root.add_typer(app, name="tunnels")
