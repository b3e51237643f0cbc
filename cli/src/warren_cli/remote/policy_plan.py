"""`warren policy plan`: what storing policies would do, and a file by which exactly that is applied."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from warren_cli.errors import CliError
from warren_cli.remote.client import ApiClient, RefusedError, path_of
from warren_cli.remote.documents import DocumentError, Loaded, load, located
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.plan_file import PlanFile, write_plan
from warren_cli.remote.render import print_json
from warren_cli.terminal import echo
from warren_contracts.bus_queries import FleetTrust
from warren_contracts.commands import ApplyReply
from warren_contracts.http_bodies import ApplyRequest
from warren_contracts.plans import Interruption, PlannedPolicy, PlannedTunnel, PlanPolicies, PolicyPlan

NO_CHANGES, CHANGES = 0, 3
SHOWN = 20  # touched tunnels; --all shows the others, too
PAGE = 1_000

HELP = f"""Show what storing policies would do: each field that changes, and the effect on each tunnel.

Nothing is stored. `--out FILE` writes the plan; `warren policy apply FILE` applies exactly that, or refuses when anything has moved.

Exit code 0; with --detailed-exitcode {CHANGES} if something would change.

Examples:

  warren policy plan branches.yaml

  warren policy plan policies/ --out change.plan --detailed-exitcode
"""
_WORDS = {
    Interruption.REKEY: "rekeyed, no interruption", Interruption.RE_ESTABLISHED: "re-established next to the old one",
    Interruption.NEW: "new", Interruption.REMOVED: "removed", Interruption.NONE: "not touched",
}  # fmt: skip


@reported
def plan_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Files, folders, or - for standard input.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the plan to this file.", show_default=False)] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help=f"Exit code {CHANGES} if something would change.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help=f"Every touched tunnel, not only the first {SHOWN}.")] = False,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """The options of `warren policy plan`."""
    loaded = load(files)
    with connect(url, token_file) as api:
        plan = _whole(api, loaded, PAGE if every or as_json else SHOWN, every=every or as_json)
        root = _fleet(api) if out is not None else ""
    if out is not None:
        write_plan(out, _file(plan, loaded, url, root))
    if as_json:
        print_json(plan)
    else:
        _print(plan, out)
    for warning in located(loaded, plan.warnings):
        echo(f"warning: {warning}", err=True)
    raise typer.Exit(CHANGES if detailed_exitcode and not plan.is_empty else NO_CHANGES)


def apply_plan(api: ApiClient, plan: PlanFile, *, dry_run: bool) -> ApplyReply:
    """Apply exactly what was planned.

    Raises:
        CliError: it is the plan of another fleet.
        RefusedError: something has moved since.
    """
    if plan.fleet != _fleet(api):
        raise CliError(
            f"the plan is of another fleet, that of {plan.server}: nothing was stored, plan again for this one"
        )
    body = ApplyRequest(
        policies=plan.policies, expected_versions=plan.expected_versions, plan=plan.mark, dry_run=dry_run
    )
    return api.call("POST", path_of("policies:apply"), ApplyReply, body)


def _fleet(api: ApiClient) -> str:
    """The public key of the trust root: no two fleets have the same."""
    return api.call("GET", path_of("trust"), FleetTrust).root


def _whole(api: ApiClient, loaded: list[Loaded], limit: int, *, every: bool) -> PolicyPlan:
    """The plan with its touched tunnels; without `every` the first page of them."""
    policies = tuple(it.policy for it in loaded)

    def page(after: str) -> PolicyPlan:
        body = PlanPolicies.model_construct(policies=policies, after=after, limit=limit)
        try:
            return api.call("POST", path_of("policies:plan"), PolicyPlan, body)
        except RefusedError as error:
            if not error.errors:
                raise
            raise DocumentError(*located(loaded, error.errors)) from None

    plan = found = page("")
    tunnels = [*plan.tunnels]
    while every and found.next_after is not None:
        found = page(found.next_after)
        if found.mark != plan.mark:
            raise CliError("the fleet has changed while its plan was read: plan again")
        tunnels += found.tunnels
    return plan.model_copy(update={"tunnels": tuple(tunnels), "next_after": found.next_after})


def _file(plan: PolicyPlan, loaded: list[Loaded], url: str, fleet: str) -> PlanFile:
    versions = {it.id: it.version for it in plan.policies}
    return PlanFile(
        made_at=datetime.now(UTC), server=url, fleet=fleet, mark=plan.mark, expected_versions=versions,
        policies=tuple(it.policy for it in loaded),
    )  # fmt: skip


def _print(plan: PolicyPlan, out: Path | None) -> None:
    for policy in plan.policies:
        for line in _policy_lines(policy):
            echo(line)
    counts = {word.value: count for word, count in plan.interruptions.items()}
    if plan.effects.untouched:
        counts["untouched"] = plan.effects.untouched
    echo("tunnels: " + (", ".join(f"{count} {word}" for word, count in counts.items()) or "none"))
    for tunnel in plan.tunnels:
        echo(f"  {_tunnel_line(tunnel, is_known=plan.states_known)}")
    more = sum(plan.interruptions.values()) - len(plan.tunnels)
    if more > 0:
        echo(f"  and {more} more: --all")
    if out is not None:
        echo(f"apply exactly this: warren policy apply {out}")


def _policy_lines(policy: PlannedPolicy) -> Iterator[str]:
    version = f"version {policy.version}" if policy.version else "new"
    yield f"policy {policy.id}: {policy.action} ({version})"
    yield from (f"  {change}" for change in policy.changes)
    if policy.more_changes:
        yield f"  and {policy.more_changes} more fields"


def _tunnel_line(tunnel: PlannedTunnel, *, is_known: bool) -> str:
    state = tunnel.state.value if tunnel.state is not None else ("not reported" if is_known else "not known")
    now = "" if tunnel.interruption is Interruption.NEW and tunnel.state is None else f" (now {state})"
    return f"{tunnel.name}: {_WORDS[tunnel.interruption]}{now}"


def register(app: typer.Typer) -> None:
    """Add this verb to `warren policy`."""
    app.command("plan", help=HELP)(plan_command)
