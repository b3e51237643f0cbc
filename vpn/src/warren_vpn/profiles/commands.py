"""The verbs of `warren vpn profile`: their options. What they run is imported when it runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from warren_vpn.owned_file import is_there
from warren_vpn.users.commands import DEFAULT_FOLDER, UsersPath

app = typer.Typer(no_args_is_help=True, help="Profiles of the VPN's clients: create, show.")

CREATE_HELP = """Write a user's profile for a client.

Clients are Warren's, strongSwan's (also Android), Apple's and Windows's.

A profile holds no secret unless `--with-key` puts the user's private key into it. Then the passphrase for the key's container is
read from the terminal, or is the first line of standard input.

Examples:

  warren vpn profile create alice --for warren --qr

  warren vpn profile create bob --for strongswan --server 192.0.2.10

  warren vpn profile create al --for apple --certificate al.crt --with-key
"""
SHOW_HELP = """Check and show a profile of Warren's client.

Example:

  warren vpn profile show office-alice.json
"""


class ProfileClient(StrEnum):
    """The clients that profiles are made for."""

    WARREN = "warren"
    STRONGSWAN = "strongswan"
    APPLE = "apple"
    WINDOWS = "windows"


Config = Annotated[Path, typer.Option(help="The server's configuration.", metavar="FILE")]
Name = Annotated[str, typer.Option(help="The profile's name, as the client shows it.")]
Servers = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        help="A name or address of the server; repeatable, in order of preference.",
        show_default="its identity",
    ),
]
Domains = Annotated[list[str] | None, typer.Option("--search-domain", help="A search domain; repeatable.")]
CertificateFile = Annotated[
    Path | None, typer.Option("--certificate", help="The user's certificate in PEM.", metavar="FILE")
]
Key = Annotated[
    Path | None,
    typer.Option(
        help="The user's private key in PEM.", metavar="FILE", show_default="NAME.key next to the certificate"
    ),
]
Authority = Annotated[
    Path | None,
    typer.Option("--ca-file", help="The CA of the server's certificate.", show_default="client_ca of server.toml"),
]
QrFile = Annotated[Path | None, typer.Option(help="Write a QR code, as .svg or .png.", metavar="FILE")]
Out = Annotated[Path, typer.Option(help="The folder to write to.", metavar="PATH")]


def register(root: typer.Typer) -> None:
    """Add `warren vpn profile`."""
    root.add_typer(app, name="profile")


@app.command("create", help=CREATE_HELP)
def create_command(
    user: Annotated[str, typer.Argument(help="The user's name.")],
    client: Annotated[ProfileClient, typer.Option("--for", help="The client.")] = ProfileClient.WARREN,
    server: Servers = None,
    name: Name = "vpn",
    search_domain: Domains = None,
    kill_switch: Annotated[bool, typer.Option("--kill-switch", help="Block traffic while the tunnel is down.")] = False,
    certificate: CertificateFile = None,
    key: Key = None,
    with_key: Annotated[bool, typer.Option("--with-key", help="Put the private key into the profile.")] = False,
    qr: Annotated[bool, typer.Option("--qr", help="Show a QR code in the terminal (Warren's profile).")] = False,
    qr_file: QrFile = None,
    out: Out = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    ca_file: Authority = None,
    users: UsersPath = None,
    config: Config = DEFAULT_FOLDER / "server.toml",
) -> None:
    """The options of `warren vpn profile create`."""
    from warren_vpn.profiles.create import ProfileOptions, create

    wanted = ProfileOptions(
        user=user,
        client=client.value,
        servers=tuple(server or ()),
        name=name,
        search_domains=tuple(search_domain or ()),
        kill_switch=kill_switch,
        certificate=certificate,
        key=key if key is not None else _key_of(certificate),
        with_key=with_key,
        qr=qr,
        qr_file=qr_file,
        out=out,
        force=force,
        ca_file=ca_file,
        users=users if users is not None else config.parent / "users.json",
        config=config,
    )
    for line in create(wanted):
        typer.echo(line, err=True)


def _key_of(certificate: Path | None) -> Path | None:
    """Where `warren vpn user certificate` writes it."""
    if certificate is None:
        return None
    key = certificate.with_suffix(".key")
    return key if is_there(key) else None


@app.command("show", help=SHOW_HELP)
def show_command(
    path: Annotated[Path, typer.Argument(help="The profile's file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The options of `warren vpn profile show`."""
    from warren_vpn.profiles.create import show

    show(path, as_json)
