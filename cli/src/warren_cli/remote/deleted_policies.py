"""`warren policy list --deleted`: the policies that are not stored any more."""

from pathlib import Path

from warren_cli.remote.client import path_of
from warren_cli.remote.options import connect
from warren_cli.remote.render import moment, print_json, print_table
from warren_contracts.policy_history import DeletedPolicies, DeletedPolicy


def list_deleted(url: str, token_file: Path | None, as_json: bool) -> None:
    """List them, the last deleted first. Raises CliError."""
    with connect(url, token_file) as api:
        found: list[DeletedPolicy] = list(api.pages(path_of("policies:deleted"), DeletedPolicies, "policies"))
    found.sort(key=lambda it: it.revision, reverse=True)
    if as_json:
        print_json(found)
        return
    rows = ((it.id, it.version, moment(it.at), it.actor, it.revision) for it in found)
    columns = ("POLICY", "LAST VERSION", "DELETED", "BY", "REVISION")
    print_table(columns, rows, "No policy was deleted.", optional=("REVISION",))
