"""`warren vpn key`: a raw Ed25519 key for a user who logs in without a password. The private half never leaves the client."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Raw keys of users: new, public.")

NEW_HELP = """Make a private key, and print its public key.

The file is PKCS #8 in PEM, of mode 0600; what is printed is for `warren vpn user add --public-key`.

Example:

  warren vpn key new alice.key
"""
PUBLIC_HELP = """Print the public key of a private key.

Example:

  warren vpn key public alice.key
"""
File = Annotated[Path, typer.Argument(help="The private key's file.")]


def register(root: typer.Typer) -> None:
    """Add `warren vpn key`."""
    root.add_typer(app, name="key")


@app.command("new", help=NEW_HELP)
def new_command(path: File) -> None:
    """The options of `warren vpn key new`."""
    typer.echo(new_key(path))


@app.command("public", help=PUBLIC_HELP)
def public_command(path: File) -> None:
    """The options of `warren vpn key public`."""
    typer.echo(public_key(path))


def new_key(path: Path) -> str:
    """Write a new key; returns the Base64 of its public key. CredentialError: the file exists, or cannot be written."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from warren_process.atomic_file import write_atomically
    from warren_trust.certificates import private_key_pem
    from warren_vpn.owned_file import is_there, reason_of
    from warren_vpn.profiles.credentials import CredentialError
    from warren_vpn.server.folder import public_text

    if is_there(path) and os.access(path.parent, os.X_OK):
        raise CredentialError(f"{path}: exists; a key is never replaced, choose another name")
    key = Ed25519PrivateKey.generate()
    try:
        write_atomically(path, private_key_pem(key))
    except OSError as error:
        raise CredentialError(f"{path}: {reason_of(error)}") from None
    return public_text(key.public_key())


def public_key(path: Path) -> str:
    """The Base64 of a private key's public key. CredentialError: it is no Ed25519 key; CliError: it cannot be read."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from warren_cli.files import read_small
    from warren_vpn.profiles.credentials import CredentialError, parse_private_key
    from warren_vpn.server.folder import public_text

    key = parse_private_key(read_small(path, "the private key"), str(path))
    if not isinstance(key, Ed25519PrivateKey):
        raise CredentialError(f"{path}: must be an Ed25519 key (warren vpn key new)")
    return public_text(key.public_key())
