"""What `warren vpn server` and `warren vpn status` print."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from warren_cli.remote.render import moment, print_fields, print_json, print_table, size
from warren_cli.terminal import echo
from warren_vpn.server.certificate import Renewed
from warren_vpn.server.control import Disconnected, Reloaded, ReloadRequest, Request, ServerStatus
from warren_vpn.server.control_client import ask
from warren_vpn.server.errors import ControlError
from warren_vpn.server.folder import MadeFolder
from warren_vpn.server.settings import control_path

Answer = TypeVar("Answer", bound=BaseModel)


class MadeShown(BaseModel):
    """What `init` has made."""

    settings: str
    public_key: str
    ca: str | None


def ask_server(config: Path, request: Request, kind: type[Answer]) -> Answer:
    """Ask the running server. CliError: the file cannot be read, or nobody answers."""
    return ask(control_path(config), request, kind)


def print_renewed(renewed: Renewed, config: Path) -> None:
    """The outcome of `renew`, which a running server uses at once. CliError: it refuses the reload."""
    print_fields((("certificate", renewed.path), ("valid until", moment(renewed.expires))))
    try:
        ask_server(config, ReloadRequest(), Reloaded)
    except ControlError:
        echo("no server answers; the next start uses the certificate", err=True)


def print_made(made: MadeFolder, as_json: bool) -> None:
    """The outcome of `init`."""
    authority = None if made.authority is None else str(made.authority)
    if as_json:
        print_json(MadeShown(settings=str(made.settings), public_key=made.public_key, ca=authority))
        return
    print_fields((("settings", made.settings), ("public key", made.public_key), ("CA", authority or "")))


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
