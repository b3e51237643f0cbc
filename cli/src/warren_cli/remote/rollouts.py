"""`warren policy rollout`: how far the current revision of each policy has got."""

from typing import Annotated

import typer

from warren_cli.errors import CliError
from warren_cli.remote import completion
from warren_cli.remote.client import path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import moment, print_json, print_table
from warren_cli.terminal import echo
from warren_contracts.rollouts import PolicyRollout, RolloutList, RolloutState

HELP = """Show how many gateways have applied the current revision of each policy; of one policy, which have not.

pending: the gateway is online and has not reported the revision; failed: it has received it and could not apply it completely;
unreachable: it is offline. Exit code 0: every gateway has applied it; 3: not every one.

Examples:

  warren policy rollout

  warren policy rollout branches
"""
COMPLETE, INCOMPLETE = 0, 3
_MISSING = (RolloutState.PENDING, RolloutState.FAILED, RolloutState.UNREACHABLE)


@reported
def rollout_command(
    policy_id: Annotated[
        str, typer.Argument(metavar="[ID]", autocompletion=completion.policies, show_default=False)
    ] = "",
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    with connect(url, token_file) as api:
        found = list(api.pages(path_of("rollouts"), RolloutList, "rollouts"))
    if policy_id:
        found = [it for it in found if it.policy == policy_id]
        if not found:
            raise CliError(f"no policy {policy_id} is published: `warren policy list` shows those that are stored")
    if as_json:
        print_json(found)
    elif policy_id:
        _show(found[0])
    else:
        _list(found)
    raise typer.Exit(COMPLETE if all(it.since is None for it in found) else INCOMPLETE)


def _list(rollouts: list[PolicyRollout]) -> None:
    rows = (
        (it.policy, it.revision, _applied(it), *(it.gateways.get(state, 0) for state in _MISSING), moment(it.since))
        for it in rollouts
    )
    columns = ("POLICY", "REVISION", "APPLIED", "PENDING", "FAILED", "UNREACHABLE", "SINCE")
    print_table(columns, rows, "No policy is published.")


def _show(rollout: PolicyRollout) -> None:
    since = "" if rollout.since is None else f" since {moment(rollout.since)}"
    echo(f"{rollout.policy}: revision {rollout.revision} is applied by {_applied(rollout)} gateways{since}")
    if not rollout.waiting:
        return
    print_table(("GATEWAY", "STATE"), ((it.peer, it.state.value) for it in rollout.waiting), "")
    missing = sum(rollout.gateways.get(state, 0) for state in _MISSING)
    if missing > len(rollout.waiting):
        echo(f"and {missing - len(rollout.waiting)} others")


def _applied(rollout: PolicyRollout) -> str:
    return f"{rollout.gateways.get(RolloutState.APPLIED, 0)} of {sum(rollout.gateways.values())}"


def register(app: typer.Typer) -> None:
    """Add `rollout`."""
    app.command("rollout", help=HELP)(rollout_command)
