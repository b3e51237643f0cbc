"""`warren audit`: what operators have done, whether the log is whole, and all of it for an archive."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from warren_cli.errors import CliError
from warren_cli.remote.client import ApiClient, path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, VerbGroup, connect, reported, with_trust
from warren_cli.remote.render import moment, print_json, print_table
from warren_cli.terminal import echo
from warren_contracts.audit import AuditEntry, AuditLog, AuditVerification, PolicyAuditEntry, PolicyAuditLog

BROKEN = 3

app = typer.Typer(
    cls=VerbGroup,
    invoke_without_command=True,
    help="What operators have done: list (also without a word), verify, export.\n\nExample: warren audit list --actor ann",
)

Actor = Annotated[str, typer.Option("--actor", metavar="NAME", help="Only what this operator has done.")]

LIST_HELP = """List what operators have done to peers, tokens, epochs and policies, oldest first.

Examples:

  warren audit

  warren audit list --actor ann --json
"""
VERIFY_HELP = f"""Compute the hash chain of the policies' audit log again.

Exit code 0: it is whole, and the last hash is shown, to be compared with one that was noted before; {BROKEN}: it is not.

Example: warren audit verify
"""
EXPORT_HELP = """Write both audit logs as JSON lines: to FILE, or to standard output.

Each line has `log` (`registry` or `policy`) and an entry. Those of `policy` have their hashes: SHA-256(hash of the row before || JSON
of this row), so that a holder of the file can compute the chain.

Example: warren audit export audit.jsonl
"""


@app.callback()
@with_trust
def audit(
    context: typer.Context, actor: Actor = "", url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False
) -> None:
    if context.invoked_subcommand is None:
        list_command(actor, url, token_file, as_json)


@app.command("list", help=LIST_HELP)
@reported
def list_command(actor: Actor = "", url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    with connect(url, token_file) as api:
        found = [it for it in _entries(api) if not actor or it.actor == actor]
    found.sort(key=lambda it: it.at)
    if as_json:
        print_json(found)
        return
    columns = ("TIME", "BY", "FROM", "ACTION", "SUBJECT", "DETAIL")
    print_table(columns, map(_row, found), "The audit log is empty.", optional=("DETAIL",))


@app.command("verify", help=VERIFY_HELP)
@reported
def verify_command(url: Url = URL, token_file: TokenFile = None, as_json: AsJson = False) -> None:
    with connect(url, token_file) as api:
        found = api.call("GET", path_of("audit", "verification"), AuditVerification)
    if as_json:
        print_json(found)
    elif found.ok:
        echo(f"the audit log of policies is whole: {found.rows} rows, last hash {found.hash}")
    else:
        echo(f"the audit log of policies is damaged at row {found.broken_at}: {found.reason}", err=True)
    raise typer.Exit(0 if found.ok else BROKEN)


@app.command("export", help=EXPORT_HELP)
@reported
def export_command(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", show_default=False)] = None,
    url: Url = URL,
    token_file: TokenFile = None,
) -> None:
    with connect(url, token_file) as api:
        lines = (_as_line(entry) for entry in _entries(api))
        if file is None:
            for line in lines:
                sys.stdout.write(line)
            return
        try:
            with file.open("w", encoding="utf-8") as out:
                out.writelines(lines)
        except OSError as error:
            raise CliError(f"{file}: {error.strerror}") from None


def _entries(api: ApiClient) -> Iterator[AuditEntry | PolicyAuditEntry]:
    yield from api.pages(path_of("audit"), AuditLog, "entries")
    yield from api.pages(path_of("audit", "policies"), PolicyAuditLog, "entries")


def _as_line(entry: AuditEntry | PolicyAuditEntry) -> str:
    log = "registry" if isinstance(entry, AuditEntry) else "policy"
    return json.dumps({"log": log, **entry.model_dump(mode="json")}) + "\n"


def _row(entry: AuditEntry | PolicyAuditEntry) -> tuple[str, ...]:
    if isinstance(entry, AuditEntry):
        return moment(entry.at), entry.actor or "-", entry.client or "-", entry.action, entry.subject, entry.detail
    return (
        moment(entry.at),
        entry.actor or "-",
        "-",
        f"policy {entry.action}",
        f"revision {entry.revision}",
        entry.detail,
    )


def register(root: typer.Typer) -> None:
    """Add `warren audit`."""
    root.add_typer(app, name="audit")
