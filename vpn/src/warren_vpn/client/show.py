"""What `warren vpn status` prints of the client."""

import json
from typing import Any

import typer
from pydantic import ValidationError

from warren_cli.errors import CliError
from warren_cli.remote.render import print_fields, size
from warren_contracts.base import Document


class ClientStatus(Document):
    """What a client answers. `bytes_in` and the others are there while it has a device."""

    state: str
    profile: str
    device: str
    server: str | None
    up_seconds: int | None
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    dns: tuple[str, ...]
    kill_switch: str
    bytes_in: int = 0
    bytes_out: int = 0


def check_status(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, if it is a status. CliError: the client has another version."""
    try:
        ClientStatus.model_validate_json(json.dumps(answer))
    except ValidationError:
        raise CliError("the running VPN client has another version; stop it and start it again") from None
    return answer


def print_client(status: dict[str, Any], as_json: bool) -> None:
    """The client's own status: fields in words, or one JSON object on a line of its own."""
    if as_json:
        typer.echo(json.dumps({"client": status}))
        return
    print_fields(rows(status))


def rows(status: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Names and values; the empty ones are not printed."""
    traffic = f"{size(status['bytes_in'])} in, {size(status['bytes_out'])} out" if "bytes_in" in status else ""
    up = f"{status['server']}, for {status['up_seconds']} s" if status.get("server") else ""
    return (
        ("client", f"{status['state']}, profile {status['profile']}, device {status['device']}"),
        ("connected to", up),
        ("addresses", ", ".join(status["addresses"])),
        ("routes", ", ".join(status["routes"])),
        ("dns", ", ".join(status["dns"])),
        ("kill switch", status["kill_switch"]),
        ("traffic", traffic),
    )
