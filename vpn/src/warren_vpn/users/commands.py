"""The verbs of `warren vpn user`: their options. What they run is imported when it runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from warren_cli.errors import CliError

if TYPE_CHECKING:
    from warren_vpn.users.store import UserFile

app = typer.Typer(no_args_is_help=True, help="The users of the VPN server.")

DEFAULT_FOLDER = Path("/var/lib/warren-vpn")
"""Where `warren vpn server init` puts a server, and the server looks for its users."""
NT_HASH_WARNING = (
    "warning: --mschapv2 stores the NT hash of the password (MD4, no salt): anybody who reads the user file can log in with it, and can"
    " find weak passwords in seconds. Use it only for clients that have neither EAP-GTC nor certificates."
)
ADD_HELP = """Add a user. The password is read from the terminal without echo, or is the first line of standard input.

With --public-key or --certificate the user needs no password and none is read, unless --password is given too.

Examples:

  warren vpn user add alice

  pass show vpn/bob | warren vpn user add bob --network 10.1.0.0/16

  warren vpn user add al --public-key "$(warren vpn key public al.key)"
"""
SET_HELP = """Change what a user may do. Options that are not given stay as they are.

Examples:

  warren vpn user set alice --network 10.1.0.0/16 --network 10.2.0.0/16

  warren vpn user set alice --all-networks --no-rate
"""
CHANGE_HELP = """Replace a user's password.

The new one is read from the terminal without echo, or is the first line of standard input.

Example:

  warren vpn user passwd alice
"""
CERTIFICATE_HELP = """Issue a certificate for a user of Apple or Windows.

It is of the CA that `warren vpn server init` has made. NAME.crt and NAME.key are written into the folder; give them to `warren
vpn profile create --certificate --key`.

Example:

  warren vpn user certificate alice --out alice
"""
LIST_HELP = """List the users.

Example:

  warren vpn user list --json
"""
SHOW_HELP = """Show one user. No verifier of a password is shown.

Example:

  warren vpn user show alice
"""
REMOVE_HELP = """Remove a user. Its sessions end at the server's next check of the file, within seconds.

Example:

  warren vpn user remove alice --yes
"""
ENABLE_HELP = """Let a disabled user log in again.

Example:

  warren vpn user enable alice
"""
DISABLE_HELP = """Refuse a user's logins without removing it.

Its sessions end at the server's next check of the file, within seconds.

Example:

  warren vpn user disable alice
"""

UsersPath = Annotated[
    Path | None,
    typer.Option("--users", help="The user file.", metavar="PATH", show_default="/var/lib/warren-vpn/users.json"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The user's name.")]
Mschapv2 = Annotated[bool, typer.Option("--mschapv2", help="Also store the NT hash for EAP-MSCHAPv2; see the warning.")]
PublicKey = Annotated[str | None, typer.Option(help="Base64 of the user's raw Ed25519 public key.", metavar="KEY")]
Certificates = Annotated[
    list[str] | None,
    typer.Option("--certificate", help="An identity of the user's certificate; repeatable.", metavar="IDENTITY"),
]
Networks = Annotated[list[str] | None, typer.Option("--network", help="A network that the user may reach; repeatable.")]
AllowFrom = Annotated[
    list[str] | None, typer.Option("--allow-from", help="A network from which the user may connect; repeatable.")
]
Rate = Annotated[float | None, typer.Option(help="Megabits a second, each way.")]
Addresses = Annotated[
    list[str] | None, typer.Option("--address", help="A fixed address in the tunnel; one of each IP version.")
]


def register(root: typer.Typer) -> None:
    """Add `warren vpn user`."""
    root.add_typer(app, name="user")


@app.command("add", help=ADD_HELP)
def add_command(
    name: Name,
    mschapv2: Mschapv2 = False,
    with_password: Annotated[bool, typer.Option("--password", help="Read a password next to the key.")] = False,
    public_key: PublicKey = None,
    certificate: Certificates = None,
    network: Networks = None,
    rate: Rate = None,
    address: Addresses = None,
    allow_from: AllowFrom = None,
    users: UsersPath = None,
    as_json: AsJson = False,
) -> None:
    """The options of `warren vpn user add`."""
    from warren_vpn.users.edits import Options, add, check_new
    from warren_vpn.users.prompt import read_password
    from warren_vpn.users.shown import print_user

    needs_password = with_password or mschapv2 or (public_key is None and not certificate)
    if mschapv2:
        typer.echo(NT_HASH_WARNING, err=True)
    file = _file(users)
    check_new(file, name)
    password = read_password("password", confirm=True) if needs_password else None
    options = Options(public_key, _tuple(certificate), _tuple(network), rate, _tuple(address), _tuple(allow_from))
    print_user(add(file, name, password, mschapv2, options), as_json)
    _warn(file, name)


@app.command("list", help=LIST_HELP)
def list_command(users: UsersPath = None, as_json: AsJson = False) -> None:
    """The options of `warren vpn user list`."""
    from warren_vpn.users.shown import print_users

    print_users(_file(users).read().users, as_json)


@app.command("show", help=SHOW_HELP)
def show_command(name: Name, users: UsersPath = None, as_json: AsJson = False) -> None:
    """The options of `warren vpn user show`."""
    from warren_vpn.users.edits import find
    from warren_vpn.users.shown import print_user

    print_user(find(_file(users), name), as_json)


@app.command("set", help=SET_HELP)
def set_command(
    name: Name,
    public_key: PublicKey = None,
    certificate: Certificates = None,
    network: Networks = None,
    all_networks: Annotated[bool, typer.Option("--all-networks", help="All that the server offers.")] = False,
    rate: Rate = None,
    no_rate: Annotated[bool, typer.Option("--no-rate", help="The server's limit.")] = False,
    address: Addresses = None,
    any_address: Annotated[bool, typer.Option("--any-address", help="Addresses from the pools.")] = False,
    allow_from: AllowFrom = None,
    from_anywhere: Annotated[bool, typer.Option("--from-anywhere", help="As the server's settings say.")] = False,
    users: UsersPath = None,
    as_json: AsJson = False,
) -> None:
    """The options of `warren vpn user set`."""
    from warren_vpn.users.edits import Options, change
    from warren_vpn.users.shown import print_user

    for one, other, names in (
        (network, all_networks, "--network and --all-networks"),
        (rate, no_rate, "--rate and --no-rate"),
        (address, any_address, "--address and --any-address"),
        (allow_from, from_anywhere, "--allow-from and --from-anywhere"),
    ):
        if one and other:
            raise typer.BadParameter(f"{names} contradict each other: give one")
    values = Options(public_key, _tuple(certificate), _tuple(network), rate, _tuple(address), _tuple(allow_from)).given
    values |= {"networks": ()} if all_networks else {}
    values |= {"rate_mbit": None} if no_rate else {}
    values |= {"addresses": ()} if any_address else {}
    values |= {"allow_from": ()} if from_anywhere else {}
    if not values:
        raise typer.BadParameter("nothing to change: give an option, such as --network")
    file = _file(users)
    print_user(change(file, name, values), as_json)
    _warn(file, name)


@app.command("passwd", help=CHANGE_HELP)
def passwd_command(name: Name, mschapv2: Mschapv2 = False, users: UsersPath = None, as_json: AsJson = False) -> None:
    """The options of `warren vpn user passwd`."""
    from warren_vpn.users.edits import find, set_password
    from warren_vpn.users.prompt import read_password
    from warren_vpn.users.shown import print_user

    file = _file(users)
    find(file, name)
    if mschapv2:
        typer.echo(NT_HASH_WARNING, err=True)
    print_user(set_password(file, name, read_password("password", confirm=True), mschapv2), as_json)


@app.command("remove", help=REMOVE_HELP)
def remove_command(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    users: UsersPath = None,
    as_json: AsJson = False,
) -> None:
    """The options of `warren vpn user remove`."""
    from warren_cli.remote.options import confirm
    from warren_vpn.users.edits import find, remove
    from warren_vpn.users.shown import print_user

    file = _file(users)
    user = find(file, name)
    confirm(f"Remove user {user.name}?", yes)
    remove(file, name)
    typer.echo(f"user {user.name} removed", err=True)
    if as_json:
        print_user(user, as_json)


@app.command("certificate", help=CERTIFICATE_HELP)
def certificate_command(
    name: Name,
    out: Annotated[Path, typer.Option(help="The folder to write to.", metavar="PATH")] = Path(),
    ca: Annotated[
        Path | None, typer.Option(help="The CA's certificate.", show_default="ca.crt next to the user file")
    ] = None,
    ca_key: Annotated[
        Path | None, typer.Option(help="The CA's key.", show_default="ca.key next to the user file")
    ] = None,
    users: UsersPath = None,
    as_json: AsJson = False,
) -> None:
    """The options of `warren vpn user certificate`."""
    from warren_vpn.users.edits import add_certificate, find
    from warren_vpn.users.shown import print_user

    file = _file(users)
    folder = file.path.parent
    made = add_certificate(file, name, ca or folder / "ca.crt", ca_key or folder / "ca.key", out)
    key = made.with_suffix(".key")
    config = "" if folder == DEFAULT_FOLDER else f" --config {folder / 'server.toml'}"
    typer.echo(f"{made} and {key} written; valid for 825 days at most", err=True)
    typer.echo(
        f"1. warren vpn profile create {name}{config} --for apple --certificate {made} --with-key (or --for windows)",
        err=True,
    )
    if as_json:
        print_user(find(file, name), as_json)


@app.command("enable", help=ENABLE_HELP)
def enable_command(name: Name, users: UsersPath = None, as_json: AsJson = False) -> None:
    """The options of `warren vpn user enable`."""
    _set_disabled(name, users, False, as_json)


@app.command("disable", help=DISABLE_HELP)
def disable_command(name: Name, users: UsersPath = None, as_json: AsJson = False) -> None:
    """The options of `warren vpn user disable`."""
    _set_disabled(name, users, True, as_json)


def _set_disabled(name: str, users: Path | None, disabled: bool, as_json: bool) -> None:
    from warren_vpn.users.edits import change
    from warren_vpn.users.shown import print_user

    user = change(_file(users), name, {"disabled": disabled})
    typer.echo(f"user {user.name} {'disabled' if disabled else 'enabled'}", err=True)
    if as_json:
        print_user(user, as_json)


def _warn(file: "UserFile", name: str) -> None:
    """Of what keeps the server next to the file from serving this user. What is wrong with the server itself is its own check's."""
    from warren_vpn.server.connections import contradictions
    from warren_vpn.server.settings import read_settings

    try:
        found = dict(contradictions(read_settings(file.path.parent / "server.toml"), file.read().users))
    except CliError:
        return
    reason = next((reason for user, reason in found.items() if user.lower() == name.lower()), None)
    if reason is not None:
        typer.echo(f"warning: {reason}; until that is corrected the server refuses this user", err=True)


def _file(path: Path | None) -> "UserFile":
    from warren_vpn.users.store import FILE_NAME, UserFile

    found = path if path is not None else DEFAULT_FOLDER / FILE_NAME
    if os.path.isdir(found):
        raise CliError(f"--users: {found} is a folder; name the file, such as {found / FILE_NAME}")
    return UserFile(found)


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
