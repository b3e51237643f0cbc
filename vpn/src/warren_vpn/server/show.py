"""What `warren vpn server` and `warren vpn status` print."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from warren_cli.errors import CliError
from warren_cli.remote.render import moment, print_fields, print_json, print_table, size
from warren_cli.terminal import echo
from warren_vpn.server.certificate import Renewed
from warren_vpn.server.control import Disconnected, DisconnectRequest, Reloaded, ReloadRequest, Request, ServerStatus
from warren_vpn.server.control_client import ask
from warren_vpn.server.errors import ControlSocketError
from warren_vpn.server.folder import MadeFolder
from warren_vpn.server.settings import control_path
from warren_vpn.users.commands import DEFAULT_FOLDER
from warren_vpn.users.store import FILE_NAME

Answer = TypeVar("Answer", bound=BaseModel)


class MadeShown(BaseModel):
    """What `init` has made."""

    settings: str
    public_key: str
    ca: str | None


def ask_server(config: Path, request: Request, kind: type[Answer]) -> Answer:
    """Ask the running server. CliError: the file cannot be read, or nobody answers."""
    return ask(control_path(config), request, kind)


class CheckedShown(BaseModel):
    """What `check` has found."""

    users: int
    warnings: tuple[str, ...]


def print_checked(config: Path, users: int, warnings: Sequence[str], as_json: bool) -> None:
    """The outcome of `check`."""
    if as_json:
        print_json(CheckedShown(users=users, warnings=tuple(warnings)))
        return
    for warning in warnings:
        echo(f"warning: {warning}", err=True)
    echo(f"{config}: valid; {users} {'user' if users == 1 else 'users'}")


class RenewedShown(BaseModel):
    """What `renew` has made."""

    certificate: str
    expires: datetime


def print_renewed(renewed: Renewed, config: Path, as_json: bool) -> None:
    """The outcome of `renew`, which a running server uses at once. CliError: it refuses the reload."""
    if as_json:
        print_json(RenewedShown(certificate=str(renewed.path), expires=renewed.expires))
    else:
        print_fields((("certificate", renewed.path), ("valid until", moment(renewed.expires))))
    try:
        ask_server(config, ReloadRequest(), Reloaded)
    except ControlSocketError:
        echo("no server answers; the next start uses the certificate", err=True)


def print_made(made: MadeFolder, as_json: bool) -> None:
    """The outcome of `init`."""
    authority = None if made.authority is None else str(made.authority)
    if as_json:
        print_json(MadeShown(settings=str(made.settings), public_key=made.public_key, ca=authority))
        return
    print_fields((("settings", made.settings), ("public key", made.public_key), ("CA", authority or "")))
    for line in next_steps(made.settings):
        echo(line, err=True)


def next_steps(settings: Path) -> tuple[str, ...]:
    """What a new server needs."""
    usual = settings.parent == DEFAULT_FOLDER
    users = "" if usual else f" --users {settings.parent / FILE_NAME}"
    config = "" if usual else f" --config {settings}"
    return (
        f"1. warren vpn user add NAME{users}",
        f"2. warren vpn profile create NAME{config}",
        f"3. warren vpn server run{config}",
    )


def disconnect(config: Path, target: str) -> Disconnected:
    """Ask the running server to end sessions. CliError: there are none such, or nobody answers."""
    try:
        request = DisconnectRequest(target=target)
    except ValidationError:
        raise CliError("USER|SESSION: must be 1 to 64 characters: a user's name, or the number of a session") from None
    return ask_server(config, request, Disconnected)


def print_disconnected(ended: Disconnected, as_json: bool) -> None:
    """The outcome of `disconnect`."""
    if as_json:
        print_json(ended)
    else:
        print_fields((("disconnected", ", ".join(map(str, ended.sessions))),))


def print_status(status: ServerStatus, as_json: bool) -> None:
    """The whole status."""
    if as_json:
        print_json(status)
        return
    pools = ", ".join(f"{pool.network}: {pool.used} of {pool.size}" for pool in status.pools)
    print_fields(
        (
            ("server", status.identity),
            ("since", moment(status.since)),
            ("certificate until", None if status.certificate_expires is None else moment(status.certificate_expires)),
            ("connected", status.connected),
            ("logins", status.logins),
            ("pools", pools),
            ("refused", _counts(status.refusals)),
            ("packets dropped", _counts(status.packets_dropped)),
            ("IKE messages ignored", _counts(status.datagrams_ignored)),
        )
    )
    rows = (
        (
            it.id, it.user, ", ".join(it.addresses), it.endpoint, it.login, size(it.bytes_in), size(it.bytes_out),
            f"{it.idle_s:.0f} s", moment(it.since), it.ike, it.esp,
        )
        for it in status.sessions
    )  # fmt: skip
    print_table(
        ("SESSION", "USER", "ADDRESSES", "ENDPOINT", "LOGIN", "IN", "OUT", "IDLE", "SINCE", "IKE", "ESP"), rows,
        "Nobody is connected.", optional=("IKE", "ESP", "SINCE"),
    )  # fmt: skip


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
