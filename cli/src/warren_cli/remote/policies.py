"""`warren policy`: apply, list, show, delete."""

from collections.abc import Sequence
from typing import Annotated

import typer
import yaml

from warren_cli.errors import CliError
from warren_cli.remote.client import RefusedError, path_of
from warren_cli.remote.documents import load, located
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import echo, moment, print_json, print_table
from warren_contracts.commands import ApplyReply, PolicyList, StoredPolicy, TunnelEffects
from warren_contracts.http_bodies import ApplyRequest, DeleteRequest
from warren_contracts.policy import Policy
from warren_contracts.subjects import Audience

app = typer.Typer(no_args_is_help=True, help="What the operator states: apply, list, show, delete.")

NAMED = 8  # policies that are named in one line; of more the first few

APPLY_HELP = """Store policies: all of them in one revision, or none.

FILE is YAML or JSON and may hold several documents; a folder stands for every file in it; - is standard input.

Examples:

  warren policy apply examples/hub-spoke.yaml

  warren policy apply policies/ --dry-run

  generate-policies | warren policy apply -
"""


@app.command("apply", help=APPLY_HELP)
@reported
def apply_command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, folders, or - for standard input.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and store nothing.")] = False,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    loaded = load(files)
    with connect(url, token_file) as api:
        body = ApplyRequest.model_construct(policies=tuple(it.policy for it in loaded), dry_run=dry_run)
        try:
            reply = api.call("POST", path_of("policies:apply"), ApplyReply, body)
        except RefusedError as error:
            if not error.errors:
                raise
            raise CliError(located(loaded, error.errors)) from None
    if as_json:
        print_json(reply)
        return
    echo(summary(reply, dry_run))
    if reply.effects is not None:
        echo(format_effects(reply.effects))
    for warning in reply.warnings:
        echo(f"warning: {located(loaded, (warning,))}", err=True)


@app.command("list")
@reported
def list_command(url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    """List the policies. Example: warren policy list --json"""
    with connect(url, token_file) as api:
        stored: list[StoredPolicy] = list(api.pages(path_of("policies"), PolicyList, "policies"))
    if as_json:
        print_json(stored)
        return
    rows = (
        (it.policy.id, it.policy.version, it.policy.priority, "yes" if it.policy.enabled else "no", _kind(it.policy),
         it.policy.crypto.profile or "default", moment(it.updated_at), it.actor)
        for it in stored
    )  # fmt: skip
    columns = ("POLICY", "VERSION", "PRIORITY", "ENABLED", "TUNNELS", "CRYPTO", "CHANGED", "BY")
    print_table(columns, rows, "There are no policies.")


@app.command("show")
@reported
def show_command(
    policy_id: Annotated[str, typer.Argument(metavar="ID")],
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Show one policy, as YAML that can be applied again. Example: warren policy show branches"""
    with connect(url, token_file) as api:
        stored = api.call("GET", path_of("policies", policy_id), StoredPolicy)
    if as_json:
        print_json(stored)
        return
    said = stored.policy.model_dump(mode="json", exclude_defaults=True, exclude={"version"})
    echo(f"# version {stored.policy.version}, changed {moment(stored.updated_at)} by {stored.actor}")
    typer.echo(yaml.safe_dump(said, sort_keys=False, allow_unicode=True), nl=False)


@app.command("delete")
@reported
def delete_command(
    policy_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw policies, all of them in one revision or none: their tunnels go.

    Example: warren policy delete branches spoke-1-crypto
    """
    with connect(url, token_file) as api:
        reply = api.call(
            "POST", path_of("policies:delete"), ApplyReply, DeleteRequest.model_construct(ids=tuple(policy_ids))
        )
    if as_json:
        print_json(reply)
    else:
        echo(summary(reply))


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


def _kind(policy: Policy) -> str:
    explicit = f"{len(policy.tunnels)} explicit" if policy.tunnels else ""
    topology: tuple[Audience, ...] | str = policy.topology.kind if policy.topology else ""
    return " + ".join(str(part) for part in (topology, explicit) if part)
