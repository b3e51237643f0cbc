"""The verb `deploy`: its options. What it runs is imported when it runs."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from warren_cli.errors import CliError

app = typer.Typer(
    no_args_is_help=True,
    help="What the containers of deploy/compose run: keys, certificates, database, run, token, dump, restore (docs/deploy.md); and backup.",
)


def register(root: typer.Typer) -> None:
    """Add `warren deploy`."""
    root.add_typer(app, name="deploy")


KEYS_HELP = """Make a deployment's keys, passwords and server configuration, and share them out: one folder for each container.

What is there is kept, so that it may be repeated at every start. As root it gives each folder to the user of its container.

Example:

  warren deploy keys --data /var/lib/warren --shares /run/warren
"""
DATABASE_HELP = """Make the database, its roles and their rights, or bring them up to date, with the passwords that `keys` made.

Example:

  warren deploy database --share /run/warren/database --host postgres
"""
DUMP_HELP = """Write the rows of the database, as of one moment, to standard output. They contain no secret but hashes of tokens.

Example:

  docker compose run --rm -T database dump > warren.dump
"""
RESTORE_HELP = """Fill an empty database with the rows of a dump, from standard input.

Rows only: nothing that a service's role has put into the database is executed.

Example:

  docker compose run --rm -T database restore < warren.dump
"""
CERTIFICATES_HELP = """Renew the certificates of a deployment when two thirds of their 90 days are over, until it is stopped.

Who listens loads the new ones without a restart.

Example:

  warren deploy certificates --data /var/lib/warren --shares /run/warren
"""
RUN_HELP = """Become one service, with the settings of docs/interfaces.md made of its share; WARREN_... of the environment wins.

Example:

  warren deploy run registry --share /run/warren/registry --nats tls://nats:4222 --database postgres
"""

OPERATOR_HELP = """Make an operator's bearer token and print it once; a lost one of this name is replaced.

It runs in the registry's container, whose role it needs.

Example:

  docker compose exec -T registry warren deploy token --name ann --role admin > ann.token
"""

CaFile = Annotated[
    Path | None,
    typer.Option("--ca-file", help="CA of PostgreSQL (PEM); default: the deployment's.", show_default=False),
]
Data = Annotated[Path, typer.Option(help="What is kept: keys and passwords, for nobody else's eyes.")]
Shares = Annotated[Path, typer.Option(help="Where each container's folder is made.")]
Share = Annotated[Path, typer.Option(help="The folder that `keys` made for this container.")]
Nats = Annotated[str, typer.Option(help="The bus.")]
Database = Annotated[str, typer.Option(help="PostgreSQL's host, or the folder of its socket.")]
Advertise = Annotated[
    str,
    typer.Option(
        envvar="WARREN_ADVERTISE", metavar="NAMES", show_default=False,
        help="Addresses and names, by comma, that others reach this deployment by: they stand in its certificates.",
    ),
]  # fmt: skip
DATA = Path("/var/lib/warren")
SHARES = Path("/run/warren")
NATS = "tls://nats:4222"
POSTGRES = "postgres"


@app.command("keys", help=KEYS_HELP)
def keys_command(
    data: Data = DATA,
    shares: Shares = SHARES,
    jetstream: Annotated[
        Path, typer.Option(help="Where NATS keeps its streams, as NATS sees it.", readable=False)
    ] = Path("/data"),
    advertise: Advertise = "",
    give: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Give a folder of data to the user of a container; may be repeated."),
    ] = None,
) -> None:
    """The options of `warren deploy keys`."""
    folders = dict(_given(text) for text in give or ())

    def work() -> None:
        from warren_stack.deploy.certificates import DeploymentCertificates, parse_names
        from warren_stack.deploy.folders import Deployment, give_folders, make_keys
        from warren_stack.folders import DataFolder

        deployment = Deployment(DataFolder(data), shares)
        give_folders(folders)
        make_keys(deployment, jetstream)
        DeploymentCertificates(deployment, parse_names(advertise), partial(typer.echo, err=True)).make()
        typer.echo(f"the keys of {data} are shared out in {shares}")

    _said("keys", work)


@app.command("certificates", help=CERTIFICATES_HELP)
def certificates_command(data: Data = DATA, shares: Shares = SHARES, advertise: Advertise = "") -> None:
    """The options of `warren deploy certificates`."""

    def work() -> None:
        from warren_stack.deploy.certificates import DeploymentCertificates, parse_names
        from warren_stack.deploy.folders import Deployment
        from warren_stack.folders import DataFolder
        from warren_stack.signals import run_until_signalled

        async def keep() -> int:
            await kept.keep()
            return 0

        kept = DeploymentCertificates(
            Deployment(DataFolder(data), shares), parse_names(advertise), partial(typer.echo, err=True)
        )
        raise typer.Exit(run_until_signalled(keep()))

    _said("certificates", work)


@app.command("database", help=DATABASE_HELP)
def database_command(
    share: Share = SHARES,
    host: Database = POSTGRES,
    ca_file: CaFile = None,
) -> None:
    """The options of `warren deploy database`."""

    def work() -> None:
        import asyncio  # 30 ms, which `warren --help` does not wait for

        from warren_stack.deploy.certificates import CA_FILE
        from warren_stack.deploy.folders import make_database

        asyncio.run(make_database(share, host, ca_file or share / CA_FILE))
        typer.echo(f"the database of {host} is ready")

    _said("database", work)


@app.command("dump", help=DUMP_HELP)
def dump_command(share: Share = SHARES, host: Database = POSTGRES, ca_file: CaFile = None) -> None:
    """The options of `warren deploy dump`."""

    def work() -> None:
        import asyncio  # 30 ms, which `warren --help` does not wait for

        from warren_stack.database_copy import dump
        from warren_stack.deploy.certificates import CA_FILE
        from warren_stack.deploy.folders import remote_postgres

        server = remote_postgres(share, host, ca_file or share / CA_FILE)
        if sys.stdout.isatty():
            raise CliError("write the dump to a file: add > warren.dump")
        count = asyncio.run(dump(server, sys.stdout.buffer))
        typer.echo(f"{count} tables are written", err=True)

    _said("dump", work)


@app.command("restore", help=RESTORE_HELP)
def restore_command(share: Share = SHARES, host: Database = POSTGRES, ca_file: CaFile = None) -> None:
    """The options of `warren deploy restore`."""

    def work() -> None:
        import asyncio  # 30 ms, which `warren --help` does not wait for

        from warren_stack.database_copy import restore
        from warren_stack.deploy.certificates import CA_FILE
        from warren_stack.deploy.folders import remote_postgres

        server = remote_postgres(share, host, ca_file or share / CA_FILE)
        done = asyncio.run(restore(server, share, sys.stdin.buffer))
        left_out = f"; left out, since they are not Warren's: {', '.join(done.skipped)}" if done.skipped else ""
        typer.echo(f"{done.tables} tables are restored{left_out}", err=True)

    _said("restore", work)


@app.command("run", help=RUN_HELP)
def run_command(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="callout, registry, policy, metrics or api.")],
    share: Share = SHARES,
    nats: Nats = NATS,
    database: Database = POSTGRES,
) -> None:
    """The options of `warren deploy run`."""

    def work() -> None:
        from warren_stack.deploy.service import environment, exec_as, find

        found = find(service)
        exec_as(("-m", found.module), environment(found, share, nats, database, os.environ))

    _said(f"run {service}", work)


@app.command("token", help=OPERATOR_HELP)
def token_command(
    name: Annotated[str, typer.Option(help="Whose token it is: it stands in the audit log.")],
    role: Annotated[str, typer.Option(help="viewer, operator or admin.")],
    share: Share = SHARES,
    nats: Nats = NATS,
    database: Database = POSTGRES,
) -> None:
    """The options of `warren deploy token`."""

    def work() -> None:
        from warren_stack.deploy.service import environment, exec_as, find
        from warren_stack.services import bootstrap_token_command

        settings = environment(find("registry"), share, nats, database, os.environ)
        exec_as(bootstrap_token_command(name, role)[1:], settings)

    _said("token", work)


BACKUP_HELP = """Write keys, passwords and the database of a stopped `warren up` to one file that only you may read.

docs/backup.md says what a restore means.

Example:

  warren deploy backup --data /srv/warren --output /backup/warren-2026-01-31.tar
"""


@app.command("backup", help=BACKUP_HELP)
def backup_command(
    output: Annotated[Path, typer.Option(help="The file; it must not exist yet.", metavar="FILE")],
    data: Data = DATA,
) -> None:
    """The options of `warren deploy backup`."""

    def work() -> None:
        from warren_stack.backup import back_up
        from warren_stack.folders import DataFolder

        size = back_up(DataFolder(data.absolute()), output.absolute())
        typer.echo(f"{output}: {size} bytes. It contains the trust root: store it as safely as the fleet itself.")

    _said("backup", work)


def _given(text: str) -> tuple[str, Path]:
    """A folder of data, and whose it is."""
    from warren_stack.deploy.users import UIDS

    name, equals, folder = text.partition("=")
    if not equals or name not in UIDS or not folder:
        raise typer.BadParameter(f"{text!r}: must be NAME=FOLDER, with one of {', '.join(UIDS)}", param_hint="--give")
    return name, Path(folder)


def _said(verb: str, work: Callable[[], None]) -> None:
    """One line and exit code 1 for what cannot be done."""
    from warren_lab.errors import LabError  # only when a verb runs

    try:
        work()
    except ModuleNotFoundError as error:
        typer.echo(f"warren deploy {verb}: {error.name} is not installed; pip install 'warren-stack'", err=True)
        raise typer.Exit(1) from error
    except (CliError, LabError) as error:
        typer.echo(f"warren deploy {verb}: {error}", err=True)
        raise typer.Exit(1) from error
