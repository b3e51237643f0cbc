"""The changes of `warren vpn user`: what each verb does to the user file. The command's options are in `commands`."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from warren_cli.files import read_small
from warren_process.atomic_file import write_atomically
from warren_vpn.profiles.credentials import parse_private_key
from warren_vpn.users.certificate import identities_of, issue_certificate
from warren_vpn.users.errors import UserError
from warren_vpn.users.model import User, Users
from warren_vpn.users.password import SALT_SIZE, make_nt_hash, make_verifier
from warren_vpn.users.store import UserFile
from warren_vpn.validation import detail_of

_PROOFS = frozenset({"password", "public_key", "certificate_identities"})
"""The fields by which a user logs in: sessions end when one is replaced."""


@dataclass(frozen=True, slots=True)
class Options:
    """What may be given for a user; None: not given."""

    public_key: str | None = None
    certificate_identities: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    rate_mbit: float | None = None
    addresses: tuple[str, ...] | None = None
    allow_from: tuple[str, ...] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are given."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def add(file: UserFile, name: str, password: str | None, mschapv2: bool, options: Options) -> User:
    """Add a user. UserError: it exists, or a field is invalid."""

    def change(users: Users) -> Users:
        _check_new(users, name)
        now = datetime.now(UTC)
        values = {"name": name, "created_at": now, "changed_at": now, **_secrets(password, mschapv2), **options.given}
        return _stored(users, values)

    return _find(file.edit(change), name)


def check_new(file: UserFile, name: str) -> None:
    """Before a password is asked for. UserError: there is a user of this name."""
    _check_new(file.read(), name)


def _check_new(users: Users, name: str) -> None:
    if users.find(name) is not None:
        raise UserError(f"user {name!r} exists; set its password: warren vpn user passwd {name}")


def change(file: UserFile, name: str, values: dict[str, Any]) -> User:
    """Change fields of a user. UserError: there is none of this name, or a field is invalid."""

    def apply(users: Users) -> Users:
        user = _find(users, name)
        proof = {"changed_at": datetime.now(UTC)} if _PROOFS & set(values) else {}
        return _stored(users, {field: getattr(user, field) for field in User.model_fields} | proof | values)

    return _find(file.edit(apply), name)


def set_password(file: UserFile, name: str, password: str, mschapv2: bool) -> User:
    """Replace the password; an NT hash of the former one is removed."""
    return change(file, name, {"nt_hash": None, **_secrets(password, mschapv2)})


def add_certificate(file: UserFile, name: str, ca: Path, ca_key: Path, out: Path) -> Path:
    """Issue a certificate for a user, write it and its key into `out`, and let the user log in with it. Returns its path.

    UserError: there is no such user, the CA cannot be used, or the folder cannot be written.
    """
    user = _find(file.read(), name)
    try:
        authority = x509.load_pem_x509_certificate(read_small(ca, "the CA's certificate"))
    except ValueError:
        raise UserError(f"--ca: {ca}: no certificate in PEM") from None
    key = parse_private_key(read_small(ca_key, "the CA's key"), f"--ca-key: {ca_key}")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != authority.public_key():
        raise UserError(f"--ca-key: {ca_key}: must be the ECDSA key of {ca}")
    made = issue_certificate(user.name, authority, key, datetime.now(UTC))
    path = out / f"{user.name}.crt"
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(out / f"{user.name}.key", made.key_pem.encode(), 0o600)
        write_atomically(path, made.chain_pem.encode(), 0o644)
    except OSError as error:
        raise UserError(f"--out: {error.filename}: {error.strerror}") from None
    change(file, user.name, {"certificate_identities": identities_of(user.name)})
    return path


def remove(file: UserFile, name: str) -> None:
    """Remove a user. UserError: there is none of this name."""

    def apply(users: Users) -> Users:
        return users.without(_find(users, name).name)

    file.edit(apply)


def find(file: UserFile, name: str) -> User:
    """Return a user. UserError: there is none of this name."""
    return _find(file.read(), name)


def _find(users: Users, name: str) -> User:
    user = users.find(name)
    if user is None:
        raise UserError(f"unknown user {name!r}; list them: warren vpn user list")
    return user


def _secrets(password: str | None, mschapv2: bool) -> dict[str, Any]:
    if password is None:
        return {}
    try:
        verifier = make_verifier(password, os.urandom(SALT_SIZE))
    except ValueError as error:
        raise UserError(str(error)) from None
    return {"password": verifier, "nt_hash": make_nt_hash(password) if mschapv2 else None}


def _stored(users: Users, values: dict[str, Any]) -> Users:
    try:
        return users.with_user(User.model_validate(values))
    except ValidationError as error:
        raise UserError(detail_of(error)) from None
