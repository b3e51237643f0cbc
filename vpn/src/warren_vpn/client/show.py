"""What `warren vpn status` prints of the client."""

import json
from typing import Any

import typer

from warren_cli.remote.render import print_fields, size


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
