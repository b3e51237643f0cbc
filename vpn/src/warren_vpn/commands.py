"""The verb `vpn`: its options. What it runs is imported when it runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from warren_cli.extras import needs
from warren_cli.terminal import echo
from warren_vpn.client.commands import DEFAULT_STATE, State, client_status
from warren_vpn.client.commands import register as register_client
from warren_vpn.keys import register as register_keys
from warren_vpn.owned_file import is_there
from warren_vpn.profiles.commands import register as register_profiles
from warren_vpn.users.commands import register as register_users
from warren_vpn.verbs import done

DISTRIBUTION = "warren-vpn"
DEFAULT_FOLDER = Path("/var/lib/warren-vpn")
DEFAULT_SETTINGS = DEFAULT_FOLDER / "server.toml"
LogLevel = Literal["debug", "info", "warning", "error"]

INIT_HELP = """Make a VPN server: keys, a CA and server.toml.

The CA is for clients of other vendors.

Examples:

  warren vpn server init --identity vpn.example.org

  warren vpn server init /srv/vpn --identity vpn.example.org --name vpn6
"""
RUN_HELP = """Run the VPN server in the foreground, until SIGTERM. Linux, with CAP_NET_ADMIN. SIGHUP reads the users again.

Examples:

  warren vpn server run

  warren vpn server run --config /srv/vpn/server.toml --json
"""
CHECK_HELP = """Check server.toml, users, keys and certificates.

What expires within 30 days is a warning.

Examples:

  warren vpn server check

  warren vpn server check --config /srv/vpn/server.toml
"""
RENEW_HELP = """Renew the server's certificate.

The new one is of the same CA, for the same names and the same key, and valid for 825 days. A running server uses it at once,
and no session ends. Clients need no new profile.

Examples:

  warren vpn server renew

  warren vpn server renew --ca /srv/ca/ca.crt --ca-key /srv/ca/ca.key
"""
DISCONNECT_HELP = """End a user's sessions, or one session by its number.

Examples:

  warren vpn server disconnect alice

  warren vpn server disconnect 17 --json
"""
RELOAD_HELP = """Let the server read users and limits again.

Keys and certificates too; sessions of users who are gone end. What is wrong with a file is reported, and the server goes on:
who may have been removed from it cannot log in.

Examples:

  warren vpn server reload
"""
STATUS_HELP = """Show this host's VPN server and client.

Of the server: who is connected, addresses in use, what was refused. Of the client: its state, server, addresses and traffic.

Examples:

  warren vpn status

  warren vpn status --json | python3 -m json.tool
"""

app = typer.Typer(no_args_is_help=True, help="A VPN for people: server, users and clients, on IKEv2 and ESP.")
server = typer.Typer(no_args_is_help=True, help="The VPN server: make, run and manage it.")
app.add_typer(server, name="server")
register_users(app)
register_profiles(app)
register_client(app)
register_keys(app)

Config = Annotated[Path, typer.Option(help="The server's configuration.", metavar="FILE")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def register(root: typer.Typer) -> None:
    """Add `warren vpn`."""
    root.add_typer(app, name="vpn")


@server.command("init", help=INIT_HELP)
def init_command(
    identity: Annotated[str, typer.Option(help="The server's domain name or address, by which clients know it.")],
    folder: Annotated[Path, typer.Argument(help="Where the server's files are kept.")] = DEFAULT_FOLDER,
    name: Annotated[
        list[str] | None, typer.Option(help="A further name or address for the certificate; may be repeated.")
    ] = None,
    certificate: Annotated[
        bool, typer.Option(help="Make a CA and a certificate, for clients of other vendors.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """The options of `warren vpn server init`."""
    with needs("warren vpn server init", DISTRIBUTION):
        from warren_vpn.server.folder import make_folder
        from warren_vpn.server.show import print_made
    made = done("server init", lambda: make_folder(folder, identity, tuple(name or ()), certificate=certificate))
    print_made(made, as_json)


@server.command("check", help=CHECK_HELP)
def check_command(config: Config = DEFAULT_SETTINGS, as_json: AsJson = False) -> None:
    """The options of `warren vpn server check`."""
    with needs("warren vpn server check", DISTRIBUTION):
        from warren_vpn.server.service import check
        from warren_vpn.server.show import print_checked
    users, warnings = done("server check", lambda: check(config))
    print_checked(config, users, warnings, as_json)


@server.command("run", help=RUN_HELP)
def run_command(
    config: Config = DEFAULT_SETTINGS,
    log_level: Annotated[LogLevel, typer.Option(case_sensitive=False)] = "info",
    as_json: Annotated[bool, typer.Option("--json", help="Write logs as JSON, one object a line.")] = False,
) -> None:
    """The options of `warren vpn server run`."""
    with needs("warren vpn server run", DISTRIBUTION):
        from warren_vpn.server.run import run_server
    done("server run", lambda: run_server(config, as_json=as_json, log_level=log_level))


@server.command("renew", help=RENEW_HELP)
def renew_command(
    config: Config = DEFAULT_SETTINGS,
    ca: Annotated[
        Path | None,
        typer.Option(help="The CA's certificate.", metavar="FILE", show_default="ca.crt next to server.toml"),
    ] = None,
    ca_key: Annotated[
        Path | None, typer.Option(help="The CA's key.", metavar="FILE", show_default="ca.key next to server.toml")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The options of `warren vpn server renew`."""
    with needs("warren vpn server renew", DISTRIBUTION):
        from datetime import UTC, datetime

        from warren_vpn.server.certificate import renew
        from warren_vpn.server.show import print_renewed
    done("server renew", lambda: print_renewed(renew(config, ca, ca_key, datetime.now(UTC)), config, as_json))


@server.command("reload", help=RELOAD_HELP)
def reload_command(config: Config = DEFAULT_SETTINGS, as_json: AsJson = False) -> None:
    """The options of `warren vpn server reload`."""
    with needs("warren vpn server reload", DISTRIBUTION):
        from warren_cli.remote.render import print_json
        from warren_vpn.server.control import Reloaded, ReloadRequest
        from warren_vpn.server.show import ask_server
    reloaded = done("server reload", lambda: ask_server(config, ReloadRequest(), Reloaded))
    if as_json:
        print_json(reloaded)
    else:
        typer.echo(f"the server works with {reloaded.users} {'user' if reloaded.users == 1 else 'users'}")


@server.command("disconnect", help=DISCONNECT_HELP)
def disconnect_command(
    target: Annotated[str, typer.Argument(help="A user's name, or the number of a session.", metavar="USER|SESSION")],
    config: Config = DEFAULT_SETTINGS,
    as_json: AsJson = False,
) -> None:
    """The options of `warren vpn server disconnect`."""
    with needs("warren vpn server disconnect", DISTRIBUTION):
        from warren_vpn.server.show import disconnect, print_disconnected
    print_disconnected(done("server disconnect", lambda: disconnect(config, target)), as_json)


@app.command("status", help=STATUS_HELP)
def status_command(config: Config = DEFAULT_SETTINGS, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """The options of `warren vpn status`."""
    with needs("warren vpn status", DISTRIBUTION):
        from warren_vpn.client.show import print_client
        from warren_vpn.server.control import ServerStatus, StatusRequest
        from warren_vpn.server.show import ask_server, print_status
    client = done("status", lambda: client_status(state))
    if client is not None:
        print_client(client, as_json)
    is_server = is_there(config)
    if client is None and not is_server:
        echo(f"warren vpn status: no client runs here (warren vpn client), and there is no server ({config})", err=True)
        raise typer.Exit(1)
    if is_server:
        print_status(done("status", lambda: ask_server(config, StatusRequest(), ServerStatus)), as_json)
