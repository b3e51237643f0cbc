"""What the client reports: one line in words, or one JSON object."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from warren_cli.terminal import echo


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """`name` is constant and dotted; `text` is the line in words."""

    name: str
    text: str
    fields: dict[str, Any] = field(default_factory=dict)


Report = Callable[[ClientEvent], None]


class ProfileReport:
    """Reports events of one profile, which each of them names."""

    def __init__(self, profile: str, send: Report) -> None:
        self._profile = profile
        self._send = send

    def __call__(self, name: str, text: str, **fields: Any) -> None:
        """Report an event."""
        self._send(ClientEvent(name, text, {"profile": self._profile, **fields}))


def print_text(event: ClientEvent) -> None:
    """One line in words."""
    echo(event.text)


def print_json(event: ClientEvent) -> None:
    """One JSON object a line."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    echo(json.dumps({"event": event.name, "at": at, "message": event.text, **event.fields}, default=str))
