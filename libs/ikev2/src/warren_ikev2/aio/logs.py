"""One structured log line for each event of the engine (stdlib logging, logger `warren_ikev2`).

A record's message reads `ike_sa_established session=1 …`; the same pairs stand in its attribute `fields`, for JSON
formatters. Only values that `_TEXT` or `str` can print appear, and no event holds a key in a printable field.
"""

import dataclasses
import enum
import logging
import re

from warren_ikev2.children import ChildSa
from warren_ikev2.events import (
    AddressRefused,
    AuthenticationFailed,
    ChildSaFailed,
    DatagramDropped,
    Event,
    HandshakeFailed,
    HintReceived,
    PeerUnresponsive,
    RequestRefused,
    StateChanged,
)

logger = logging.getLogger("warren_ikev2")

_LEVELS: dict[type[Event], int] = {
    AuthenticationFailed: logging.WARNING,
    HandshakeFailed: logging.WARNING,
    PeerUnresponsive: logging.WARNING,
    ChildSaFailed: logging.WARNING,
    AddressRefused: logging.WARNING,
    RequestRefused: logging.WARNING,
    DatagramDropped: logging.DEBUG,
    HintReceived: logging.DEBUG,
    StateChanged: logging.INFO,
}


def log_event(event: Event) -> None:
    """Write the line of an event; INFO unless `_LEVELS` says otherwise."""
    level = _LEVELS.get(type(event), logging.INFO)
    if not logger.isEnabledFor(level):
        return
    fields = fields_of(event)
    pairs = " ".join(f"{name}={value}" for name, value in fields.items())
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    logger.log(level, "%s %s", name, pairs, extra={"event": name, "fields": fields})


def fields_of(event: Event) -> dict[str, str]:
    """The printable fields of an event."""
    return {
        item.name: _text(getattr(event, item.name))
        for item in dataclasses.fields(event)
        if item.repr and getattr(event, item.name) is not None
    }


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, ChildSa):
        selectors = f"{_text(value.local_ts)}=={_text(value.remote_ts)}"
        return f"{value.name}:{value.spi_in:08x}_i:{value.spi_out:08x}_o:{value.suite}:{selectors}"
    if isinstance(value, tuple):
        return ",".join(_text(item) for item in value)
    text = str(value)
    return f'"{text}"' if " " in text else text
