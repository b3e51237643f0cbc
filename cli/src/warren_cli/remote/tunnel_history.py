"""`warren tunnels history`: what happened to a tunnel, and how long it was in each state."""

from typing import Annotated

import typer

from warren_cli.remote import completion
from warren_cli.remote.client import ApiClient, path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import moment, print_json, print_table
from warren_cli.terminal import echo
from warren_contracts.status import ReasonCode, TunnelState
from warren_contracts.tunnel_history import AppliedEntry, HistoryStrip, PresenceEntry, StateEntry, TunnelHistory

PAGE = 500
# Of a bucket the worst state is shown: a letter a state, and a dot where nothing is known.
_LETTERS = {
    TunnelState.ERROR: "E", TunnelState.DOWN: "D", TunnelState.CONNECTING: "c", TunnelState.DEGRADED: "d",
    TunnelState.UNKNOWN: "?", TunnelState.STANDBY: "s", TunnelState.UP: "u",
}  # fmt: skip

HELP = """Show what happened to a tunnel, the newest first: states and reasons of both ends, their presence, and what they applied.

Above it, the worst state of each 15 minutes of the last day and of each 2 hours of the last week: u up, s standby, d degraded,
c connecting, D down, E error, ? unknown, and . where nothing is known.

Examples:

  warren tunnels history hub+spoke-1

  warren tunnels history hub+spoke-1 --until 2026-01-02T03:00:00Z --limit 20
"""


@reported
def history_command(
    name: completion.TunnelName,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many entries, the newest first.")] = 20,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Only what happened until then.", show_default=False)
    ] = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """The options of `warren tunnels history`."""
    with connect(url, token_file) as api:
        found = _read(api, name, limit, until)
    if as_json:
        print_json(found)
        return
    for title, strip in (("24 h", found.last_24h), ("7 d", found.last_7d)):
        if strip is not None:
            echo(f"{title:>4}  {_line(strip)}  {_ratio(strip)}")
    rows = ((moment(it.at), it.peer, *_words(it)) for it in found.entries)
    print_table(("TIME", "END", "WHAT", "DETAIL"), rows, f"The history has no entry of {name}.", optional=("DETAIL",))
    if found.next_before is not None:
        echo(f"and earlier ones, back to {moment(found.begins)}: --limit")


def _read(api: ApiClient, name: str, limit: int, until: str | None) -> TunnelHistory:
    """The first `limit` entries, page by page."""
    path = path_of("tunnels", name, "history")
    found = page = api.call("GET", path, TunnelHistory, limit=min(limit, PAGE), until=until)
    entries = [*found.entries]
    while len(entries) < limit and page.next_before is not None:
        wanted = min(limit - len(entries), PAGE)
        page = api.call("GET", path, TunnelHistory, limit=wanted, before=page.next_before)
        entries += page.entries
    return found.model_copy(update={"entries": tuple(entries), "next_before": page.next_before})


def _line(strip: HistoryStrip) -> str:
    return "".join(
        next((letter for state, letter in _LETTERS.items() if bucket.get(state)), ".") for bucket in strip.buckets
    )


def _ratio(strip: HistoryStrip) -> str:
    return "not known" if strip.up_ratio is None else f"{strip.up_ratio:.2%} up"


def _words(entry: StateEntry | PresenceEntry | AppliedEntry) -> tuple[str, str]:
    match entry:
        case StateEntry():
            before = f"{entry.previous.value} -> " if entry.previous is not None else ""
            said = f"{before}{'removed' if entry.removed else entry.state.value}"
            reason = "" if entry.reason is ReasonCode.NONE else entry.reason.value
            return said, f"{reason} ({entry.detail})" if reason and entry.detail else reason or entry.detail
        case PresenceEntry():
            return entry.presence.value, entry.reason
        case AppliedEntry():
            said = "applied" if entry.ok else "failed to apply"
            return f"{said} revision {entry.revision}", entry.error or f"{entry.duration_ms:.0f} ms"


def register(app: typer.Typer) -> None:
    """Add this verb to `warren tunnels`."""
    app.command("history", help=HELP)(history_command)
