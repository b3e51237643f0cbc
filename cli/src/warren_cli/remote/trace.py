"""`warren trace`: the way of one revision from the operator to the tunnels, without any tracing backend."""

from typing import Annotated

import typer

from warren_cli.errors import CliError
from warren_cli.remote.events import stored_events
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import moment, print_json, print_table
from warren_cli.remote.waterfall import bars, newest_revision, waterfall
from warren_cli.terminal import echo

KINDS = ["changed", "applied", "tunnel"]


@reported
def trace_command(
    revision: Annotated[
        int | None, typer.Argument(metavar="REVISION", min=1, help="[default: the newest]", show_default=False)
    ] = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Trace a revision: when each agent received it, how long it took, which tunnels changed. Example: warren trace 12"""
    with connect(url, token_file) as api:
        events = list(stored_events(api, KINDS))
    wanted = revision if revision is not None else newest_revision(events)
    found = waterfall(events, wanted) if wanted is not None else None
    if found is None:
        what = f"revision {revision}" if revision is not None else "any policy change"
        raise CliError(f"no stored event is about {what}: `warren events --kind changed` lists what is stored")
    if as_json:
        print_json(found)
        return
    echo(f"revision {found.revision}, stored {moment(found.at)}, trace {found.trace_id or '-'}")
    rows = (
        (
            f"{step.start_ms:.0f} ms",
            "-" if step.took_ms is None else f"{step.took_ms:.0f} ms",
            bar,
            step.where,
            step.what,
        )
        for step, bar in zip(found.steps, bars(found.steps), strict=True)
    )
    print_table(("START", "TOOK", "", "WHERE", "WHAT"), rows, "")


def register(root: typer.Typer) -> None:
    """Add `warren trace`."""
    root.command("trace")(trace_command)
