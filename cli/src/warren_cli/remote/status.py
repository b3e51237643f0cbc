"""`warren status`: the fleet on one screen, worst first."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from warren_cli.remote.client import PAGE, ApiClient, UsageError, health_response, parse_object, path_of
from warren_cli.remote.fleet_reply import ListedGateway, ListedPolicy, ListedTunnel, ServiceHealth
from warren_cli.remote.fleet_status import FleetStatus, status_at, status_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import age, moment, print_table, printable_json
from warren_cli.terminal import echo

NOT_GOOD = 3
SHOWN = 20
"""Findings on the screen; --all shows the others, too."""

HELP = """Show the fleet on one screen: what is down, which gateways are offline, what changed last.

Exit code 0: all services are ready, all gateways online and all tunnels up (or on standby); 3: something is not.

Examples:

  warren status

  warren status --tag branch --json

  warren status --at 2026-01-02T03:04:05Z
"""


@reported
def status_command(
    tag: Annotated[
        str | None, typer.Option("--tag", help="Only gateways with this tag, and their tunnels.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help=f"Every finding, not only the first {SHOWN}.")] = False,
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="TIME", help="As it was then, with its zone: 2026-01-02T03:04:05Z.", show_default=False
        ),
    ] = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """The options of `warren status`."""
    if at is not None:
        if tag is not None:
            raise UsageError("--tag: the tags of the past are not known: leave it out with --at")
        _past(at, url, token_file, limit=None if every else SHOWN, as_json=as_json)
    with connect(url, token_file) as api:
        health = ServiceHealth.parse(parse_object(health_response(api)))
        listed = ("peers", "tunnels", "policies") if health.ready else ()
        entries = {name: list(api.plain_pages(path_of(name), name)) for name in listed}
        scope = _scope(api) if health.ready else None
    found = status_of(
        health,
        [ListedGateway.parse(entry) for entry in entries.get("peers", ())],
        [ListedTunnel.parse(entry) for entry in entries.get("tunnels", ())],
        [ListedPolicy.parse(entry) for entry in entries.get("policies", ())],
        tag,
        datetime.now(UTC),
    )
    found = found._replace(scope=scope)
    if as_json:
        _print_json(found)
    else:
        _print(found, None if every else SHOWN)
    raise typer.Exit(0 if found.is_good else NOT_GOOD)


def _scope(api: ApiClient) -> tuple[str, ...] | None:
    """The tags whose gateways the token is for; None: the whole fleet, or an API server that knows no scopes."""
    response = api.request("GET", path_of("session"))
    found = None if response.is_error else parse_object(response).get("scope")
    return tuple(map(str, found)) if isinstance(found, list) else None


def _past(at: str, url: str, token_file: Path | None, *, limit: int | None, as_json: bool) -> NoReturn:
    """The fleet as it was at an instant."""
    from warren_contracts.tunnel_history import FleetAt  # these models take longer than the whole call without --at

    with connect(url, token_file) as api:
        pages = [api.call("GET", path_of("fleet"), FleetAt, at=at, limit=PAGE)]
        while (after := pages[-1].observed.next_after) is not None:
            pages.append(api.call("GET", path_of("fleet"), FleetAt, at=at, after=after, limit=PAGE))
        scope = _scope(api)
    found = status_at(pages)._replace(scope=scope)
    if as_json:
        _print_json(found)
    else:
        echo(f"at        {moment(pages[0].at)}, revision {pages[0].desired.revision} of the policies")
        _print(found, limit)
    raise typer.Exit(0 if found.is_good else NOT_GOOD)


def _print_json(found: FleetStatus) -> None:
    change = found.last_change
    shown = {
        **found._asdict(),
        "last_change": change and {**change._asdict(), "at": change.at.isoformat().replace("+00:00", "Z")},
        "findings": [finding._asdict() for finding in found.findings],
    }
    typer.echo(printable_json(json.dumps(shown, indent=2, ensure_ascii=False)))


def _print(found: FleetStatus, limit: int | None) -> None:
    if found.scope is not None:
        echo(f"scope     gateways with {' or '.join(found.scope)}, and their tunnels")
    if found.services_ready is not None:
        echo(f"services  {'ready' if found.services_ready else 'not ready: what follows is not known'}")
    echo(f"gateways  {_counts(found.gateways)}")
    echo(f"tunnels   {_counts(found.tunnels)}")
    if found.last_change is not None:
        change = found.last_change
        echo(f"change    policy {change.policy} version {change.version}, {age(change.at)} ago by {change.actor}")
    if not found.findings:
        return
    echo("")
    rows = ((it.kind, it.name, it.state, it.reason or "-") for it in found.findings[:limit])
    print_table(("WHAT", "NAME", "STATE", "REASON"), rows, "", optional=("WHAT",))
    if limit is not None and len(found.findings) > limit:
        echo(f"and {len(found.findings) - limit} more: warren status --all")


def _counts(counts: dict[str, int]) -> str:
    """`40 up, 1 down`; the largest number first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {word}" for word, count in ordered) or "none"


def register(root: typer.Typer) -> None:
    """Add `warren status`."""
    root.command("status", help=HELP)(status_command)
