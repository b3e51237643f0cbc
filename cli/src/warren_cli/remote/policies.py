"""`warren policy`: check, apply, list, show, delete."""

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import typer
import yaml

from warren_cli.remote import completion, policy_plan, rollouts
from warren_cli.remote.client import ApiClient, RefusedError, path_of
from warren_cli.remote.deleted_policies import list_deleted
from warren_cli.remote.documents import DocumentError, Loaded, load, located
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, Yes, confirm, connect, reported
from warren_cli.remote.plan_file import read_plan
from warren_cli.remote.render import moment, print_json, print_table
from warren_cli.terminal import echo
from warren_contracts.commands import ApplyReply, PolicyList, StoredPolicy, TunnelEffects
from warren_contracts.http_bodies import ApplyRequest, DeleteRequest
from warren_contracts.policy import Policy
from warren_contracts.subjects import Audience
from warren_intent.policy_diff import changes

app = typer.Typer(no_args_is_help=True, help="What the operator states: check, apply, list, show, delete.")

NAMED = 8  # policies that are named in one line; of more the first few

APPLY_HELP = """Store policies: all of them in one revision, or none.

FILE is YAML or JSON and may hold several documents; a folder stands for every file in it; - is standard input. If FILE is a plan of
`warren policy plan --out`, exactly that is applied, or nothing if anything has moved since or the plan is of another fleet.

Examples:

  warren policy apply examples/hub-spoke.yaml

  warren policy apply change.plan

  warren policy apply policies/ --dry-run

  generate-policies | warren policy apply -
"""


CHECK_HELP = """Check policies against the fleet as it is, and store nothing: every finding, and the effect on each tunnel.

Exit code 0: they can be applied, perhaps with warnings; 1: at least one is refused.

Examples:

  warren policy check branches.yaml

  warren policy check policies/ --json
"""


@app.command("check", help=CHECK_HELP)
@reported
def check_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Files, folders, or - for standard input.")],
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    _apply(files, url, token_file, dry_run=True, as_json=as_json)


@app.command("apply", help=APPLY_HELP)
@reported
def apply_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Files, folders, or - for standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and store nothing.")] = False,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    plan = read_plan(files)
    if plan is None:
        _apply(files, url, token_file, dry_run=dry_run, as_json=as_json)
        return
    with connect(url, token_file) as api:
        reply = policy_plan.apply_plan(api, plan, dry_run=dry_run)
    if as_json:
        print_json(reply)
        return
    echo(summary(reply, dry_run))


def _apply(files: list[str], url: str, token_file: Path | None, *, dry_run: bool, as_json: bool) -> None:
    loaded = load(files)
    with connect(url, token_file) as api:
        body = ApplyRequest.model_construct(policies=tuple(it.policy for it in loaded), dry_run=dry_run)
        try:
            reply = api.call("POST", path_of("policies:apply"), ApplyReply, body)
        except RefusedError as error:
            if not error.errors:
                raise
            raise DocumentError(*located(loaded, error.errors)) from None
        differing = _differing(api, loaded, reply.updated[:NAMED]) if dry_run and not as_json else []
    if as_json:
        print_json(reply)
        return
    echo(summary(reply, dry_run))
    for line in differing:
        echo(line)
    if reply.effects is not None:
        echo(format_effects(reply.effects))
    for warning in located(loaded, reply.warnings):
        echo(f"warning: {warning}", err=True)


def _differing(api: ApiClient, loaded: Sequence[Loaded], updated: Sequence[str]) -> list[str]:
    """Each field that an update changes: one that was left out falls back to its default, which nobody would see otherwise."""
    given = {it.policy.id: it.policy for it in loaded}
    lines = []
    for policy_id in updated:
        stored = api.call("GET", path_of("policies", policy_id), StoredPolicy)
        lines += [f"  {policy_id}: {change}" for change in changes(stored.policy, given[policy_id])]
    return lines


@app.command("list")
@reported
def list_command(
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those that were deleted: `warren policy rollback` creates one again.")
    ] = False,
    url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """List the policies. Example: warren policy list --json"""
    if deleted:
        list_deleted(url, token_file, as_json)
        return
    with connect(url, token_file) as api:
        stored: list[StoredPolicy] = list(api.pages(path_of("policies"), PolicyList, "policies"))
    if as_json:
        print_json(stored)
        return
    rows = (
        (it.policy.id, it.policy.version, it.policy.priority, "yes" if it.policy.enabled else "no", _kind(it.policy),
         _crypto(it.policy), moment(it.updated_at), it.actor)
        for it in stored
    )  # fmt: skip
    columns = ("POLICY", "VERSION", "PRIORITY", "ENABLED", "TOPOLOGY", "CRYPTO", "CHANGED", "BY")
    print_table(columns, rows, "There are no policies.", optional=("PRIORITY", "CRYPTO", "ENABLED", "BY"))


@app.command("show")
@reported
def show_command(
    policy_id: Annotated[str, typer.Argument(metavar="ID", autocompletion=completion.policies)],
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one policy, as YAML that can be edited and applied again. Example: warren policy show branches

    It includes the version: `warren policy apply` refuses the edit if somebody else has changed the policy meanwhile.
    """
    with connect(url, token_file) as api:
        stored = api.call("GET", path_of("policies", policy_id), StoredPolicy)
    if as_json:
        print_json(stored)
        return
    said = stored.policy.model_dump(mode="json", exclude_defaults=True)
    echo(f"# changed {moment(stored.updated_at)} by {stored.actor}")
    typer.echo(yaml.safe_dump(said, sort_keys=False, allow_unicode=True), nl=False)


@app.command("delete")
@reported
def delete_command(
    policy_ids: Annotated[list[str], typer.Argument(metavar="ID", autocompletion=completion.policies)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which tunnels would end, and store nothing.")] = False,
    yes: Yes = False,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw policies, all of them in one revision or none: their tunnels end.

    Example: warren policy delete branches spoke-1-crypto --yes
    """
    ids = tuple(policy_ids)
    with connect(url, token_file) as api:
        if not (yes or dry_run):
            confirm(f"Delete {_named(ids)}: {_lost(api, ids)}. Continue?", yes)
        body = DeleteRequest.model_construct(ids=ids, dry_run=dry_run)
        reply = api.call("POST", path_of("policies:delete"), ApplyReply, body)
    if as_json:
        print_json(reply)
        return
    echo(summary(reply, dry_run))
    if reply.effects is not None:
        echo(format_effects(reply.effects))


def _lost(api: ApiClient, ids: tuple[str, ...]) -> str:
    """What a deletion does to the tunnels; that it is not known does not prevent it."""
    request = DeleteRequest.model_construct(ids=ids, dry_run=True)
    try:
        reply = api.call("POST", path_of("policies:delete"), ApplyReply, request)
    except RefusedError as error:
        if error.status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        return f"the effect on tunnels is unknown ({error})"
    return format_effects(reply.effects).replace("\n ", ";") if reply.effects is not None else "the effect is unknown"


def summary(reply: ApplyReply, dry_run: bool = False) -> str:
    """What was stored, in one line."""
    parts = [
        f"{word} {_named(ids)}"
        for word, ids in (
            ("created", reply.created), ("updated", reply.updated), ("unchanged", reply.unchanged), ("deleted", reply.deleted)
        )
        if ids
    ]  # fmt: skip
    said = "; ".join(parts) or "nothing to do"
    return f"{said} (dry run: nothing was stored)" if dry_run else f"{said} (revision {reply.revision})"


def _named(ids: Sequence[str]) -> str:
    if len(ids) <= NAMED:
        return ", ".join(ids)
    return f"{len(ids)} policies ({', '.join(ids[: NAMED // 2])} and {len(ids) - NAMED // 2} more)"


def format_effects(effects: TunnelEffects) -> str:
    """What a dry run says of the tunnels."""
    words = (("untouched", effects.untouched), ("child only", effects.child), ("re-authenticated", effects.ike))
    counts = (*words, ("new", effects.new), ("removed", effects.removed))
    lines = ["tunnels: " + (", ".join(f"{count} {word}" for word, count in counts if count) or "none")]
    lines += [f"  {name}: {effect}" for name, effect in effects.touched.items()]
    more = effects.child + effects.ike + effects.new + effects.removed - len(effects.touched)
    return "\n".join(lines + ([f"  and {more} more"] if more > 0 else []))


def _crypto(policy: Policy) -> str:
    if policy.crypto.ike or policy.crypto.esp:
        return "own proposals"
    return policy.crypto.profile or "default"


def _kind(policy: Policy) -> str:
    explicit = f"{len(policy.tunnels)} explicit" if policy.tunnels else ""
    topology: tuple[Audience, ...] | str = policy.topology.kind if policy.topology else ""
    return " + ".join(str(part) for part in (topology, explicit) if part)


def register(root: typer.Typer) -> None:
    """Add `warren policy`."""
    from warren_cli.remote import policy_history  # it uses what is above

    policy_plan.register(app)
    policy_history.register(app)
    rollouts.register(app)
    root.add_typer(app, name="policy")
