"""`warren policy history`, `diff` and `rollback`: the versions of a policy."""

from collections.abc import Iterator
from typing import Annotated, Literal

import typer

from warren_cli.errors import CliError
from warren_cli.remote import completion
from warren_cli.remote.client import ApiClient, BadValueError, path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, Yes, confirm, connect, reported
from warren_cli.remote.policies import format_effects, summary
from warren_cli.remote.render import moment, print_json, print_table
from warren_cli.terminal import echo
from warren_contracts.commands import ApplyReply
from warren_contracts.http_bodies import ApplyRequest
from warren_contracts.policy_history import PolicyHistory, PolicyVersion
from warren_intent.policy_diff import changes

PAGE = 100

PolicyArgument = Annotated[str, typer.Argument(metavar="ID", autocompletion=completion.policies)]

DIFF_HELP = """Show what differs between two versions of a policy, field by field: of the last one and the one before, or of those given.

Exit code 0: nothing differs; 3: something does.

Examples:

  warren policy diff branches

  warren policy diff branches 3 7 --json
"""
NOTHING, DIFFERENT = 0, 3


@reported
def history_command(
    policy_id: PolicyArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many versions, the newest first.")] = 20,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of a policy, also of one that was deleted. Example: warren policy history branches --limit 5"""
    with connect(url, token_file) as api:
        found = [version for version, _ in zip(_versions(api, policy_id), range(limit), strict=False)]
    if as_json:
        print_json(found)
        return
    rows = ((it.version, it.action, moment(it.at), it.actor, it.revision) for it in found)
    print_table(("VERSION", "ACTION", "AT", "BY", "REVISION"), rows, "There are no versions.")


@reported
def diff_command(
    policy_id: PolicyArgument,
    first: Annotated[int | None, typer.Argument(metavar="[FROM]", min=1, help="A version.", show_default=False)] = None,
    second: Annotated[
        int | None, typer.Argument(metavar="[TO]", min=1, help="A version; omitted: the last one.", show_default=False)
    ] = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    with connect(url, token_file) as api:
        before, after = _pair(api, policy_id, first, second)
    found = changes(before.policy if before else None, after.policy)
    if as_json:
        print_json(found)
    else:
        was = f"version {before.version}" if before else "nothing"
        echo(f"{policy_id}: {was} -> version {after.version}, {after.action} {moment(after.at)} by {after.actor}")
        for change in found:
            echo(f"  {change}")
    raise typer.Exit(DIFFERENT if found else NOTHING)


@reported
def rollback_command(
    policy_id: PolicyArgument,
    to: Annotated[int, typer.Option("--to", min=1, help="The version whose content is stored again.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and store nothing.")] = False,
    yes: Yes = False,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Store the content of an earlier version again, as a new version. Example: warren policy rollback branches --to 3

    Also of a policy that was deleted: `warren policy list --deleted` names them. Refused if somebody else changes the policy
    meanwhile.
    """
    with connect(url, token_file) as api:
        wanted, newest = _find(api, policy_id, to), next(_versions(api, policy_id))
        if wanted.policy is None:
            raise BadValueError(f"--to {to}: {policy_id} was deleted there: use `warren policy delete`")
        held = newest.policy.version if newest.policy is not None else 0
        policy = wanted.policy.model_copy(update={"version": held})
        mode: Literal["create", "update"] = "update" if held else "create"
        plan = ApplyRequest.model_construct(policies=(policy,), mode=mode, dry_run=True)
        reply = api.call("POST", path_of("policies:apply"), ApplyReply, plan)
        if not dry_run:
            if newest.policy is None:
                said = f"it was deleted {moment(newest.at)} by {newest.actor} and is created again"
            else:
                said = "; ".join(map(str, changes(newest.policy, wanted.policy))) or "nothing changes"
            effects = (
                format_effects(reply.effects).replace("\n ", ";")
                if reply.effects is not None
                else "no tunnel is touched"
            )
            confirm(f"Roll {policy_id} back to version {to}: {said}. Effect on {effects}. Continue?", yes)
            change = ApplyRequest.model_construct(policies=(policy,), mode=mode)
            reply = api.call("POST", path_of("policies:apply"), ApplyReply, change)
    if as_json:
        print_json(reply)
        return
    echo(summary(reply, dry_run))
    if reply.effects is not None:
        echo(format_effects(reply.effects))


def register(app: typer.Typer) -> None:
    """Add these verbs to `warren policy`."""
    app.command("history")(history_command)
    app.command("diff", help=DIFF_HELP)(diff_command)
    app.command("rollback")(rollback_command)


def _versions(api: ApiClient, policy_id: str) -> Iterator[PolicyVersion]:
    """Every version, the newest first, page by page."""
    before = 0
    while True:
        page = api.call("GET", path_of("policies", policy_id, "history"), PolicyHistory, before=before, limit=PAGE)
        yield from page.versions
        if page.next_before is None:
            return
        before = page.next_before


def _find(api: ApiClient, policy_id: str, version: int) -> PolicyVersion:
    found = next((it for it in _versions(api, policy_id) if it.version == version and it.action != "deleted"), None)
    if found is None:
        raise CliError(f"{policy_id} has no version {version}: `warren policy history {policy_id}` lists them")
    return found


def _pair(
    api: ApiClient, policy_id: str, first: int | None, second: int | None
) -> tuple[PolicyVersion | None, PolicyVersion]:
    after = next(_versions(api, policy_id)) if second is None else _find(api, policy_id, second)
    if first is not None:
        return _find(api, policy_id, first), after
    older = (it for it in _versions(api, policy_id) if it.revision < after.revision)
    return next(older, None), after
