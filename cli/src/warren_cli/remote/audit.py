"""`warren audit`: what operators have done to peers, tokens and epochs."""

from typing import Annotated

import typer

from warren_cli.remote.client import path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import moment, print_json, print_table
from warren_contracts.audit import AuditEntry, AuditLog

HELP = """List what operators have done to peers, tokens and epochs, oldest first.

Changes of policies are in the history of each: warren policy history ID.

Examples:

  warren audit

  warren audit --actor ann --json
"""


@reported
def audit_command(
    actor: Annotated[str, typer.Option(metavar="NAME", help="Only what this operator has done.")] = "",
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    with connect(url, token_file) as api:
        entries: list[AuditEntry] = list(api.pages(path_of("audit"), AuditLog, "entries"))
    found = [it for it in entries if not actor or it.actor == actor]
    if as_json:
        print_json(found)
        return
    rows = ((moment(it.at), it.actor or "-", it.client or "-", it.action, it.subject, it.detail) for it in found)
    columns = ("TIME", "BY", "FROM", "ACTION", "SUBJECT", "DETAIL")
    print_table(columns, rows, "The audit log is empty.", optional=("DETAIL",))


def register(root: typer.Typer) -> None:
    """Add `warren audit`."""
    root.command("audit", help=HELP)(audit_command)
