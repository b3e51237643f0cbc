"""`warren epoch`: the word after a restore from a backup."""

from typing import Annotated

import typer

from warren_cli.remote.client import path_of
from warren_cli.remote.options import URL, AsJson, TokenFile, Url, connect, reported
from warren_cli.remote.render import print_json
from warren_contracts.commands import EpochReply
from warren_contracts.http_bodies import NewEpoch

app = typer.Typer(
    no_args_is_help=True,
    help="After a restore from a backup: advance (announce a new epoch).\n\nExample: warren epoch advance",
)

ADVANCE_HELP = """Announce a new epoch, after PostgreSQL was restored from a backup. Needs the role admin.

The registry signs it with the trust root's key. Everything is published again from the database as it is now, agents accept it,
and nothing that was published before counts any more. Tunnels that come out the same are not touched.

Give --to where the streams of the bus are of the backup, too, and an epoch was announced since: higher than that one.

Examples:

  warren epoch advance

  warren epoch advance --to 5 --json
"""


@app.callback()
def epoch() -> None:
    """A group, though it has one verb."""


@app.command("advance", help=ADVANCE_HELP)
@reported
def advance_command(
    to: Annotated[
        int | None,
        typer.Option(
            "--to", min=2, help="This epoch. [default: the next after all that are known]", show_default=False
        ),
    ] = None,
    url: Url = URL,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    with connect(url, token_file) as api:
        reply = api.call("POST", path_of("epoch"), EpochReply, NewEpoch.model_construct(to=to))
    if as_json:
        print_json(reply)
        return
    typer.echo(
        f"Epoch {reply.epoch} is announced (before: {reply.before}). Everything is published again;"
        " `warren health` says when that is done."
    )


def register(root: typer.Typer) -> None:
    """Add `warren epoch`."""
    root.add_typer(app, name="epoch")
