"""Settings of the connection to the bus."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from warren_bus.errors import InvalidSettingError, MissingSettingError
from warren_trust.keys import KeyKind, KeyPair, read_seed

NATS_URL = "WARREN_NATS_URL"
NKEY_FILE = "WARREN_NKEY_FILE"


@dataclass(frozen=True, slots=True)
class BusSettings:
    """How to reach the bus: server URLs, and the file (0600) that holds the seed of our user nkey.

    `token` is a join token: sent on the one connection before enrolment, and never shown.
    """

    servers: tuple[str, ...]
    nkey_file: Path
    token: str = field(default="", repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "BusSettings":
        """Read `WARREN_NATS_URL` and `WARREN_NKEY_FILE`; raises MissingSettingError with the missing variable."""
        given = os.environ if environ is None else environ
        for variable in (NATS_URL, NKEY_FILE):
            if not given.get(variable):
                raise MissingSettingError(variable)
        return cls(parse_servers(given[NATS_URL]), Path(given[NKEY_FILE]))

    def key(self) -> KeyPair:
        """The user key; raises InvalidKeyError."""
        return read_seed(self.nkey_file, KeyKind.USER)


def parse_servers(text: str) -> tuple[str, ...]:
    """Server URLs separated by commas; raises MissingSettingError when there is none, InvalidSettingError for an invalid URL."""
    servers = tuple(part.strip() for part in text.split(",") if part.strip())
    if not servers:
        raise MissingSettingError(NATS_URL)
    for server in servers:
        if wrong := wrong_server(server):
            raise InvalidSettingError({NATS_URL: f"is invalid: {wrong}"})
    return servers


def wrong_server(text: str) -> str:
    """Why the URL of a server is invalid; empty: it is valid. A bare `host` or `host:port` means `nats://`."""
    try:
        url = urlsplit(text if "://" in text else f"nats://{text}")
        if url.scheme in _SCHEMES and url.hostname and url.port != 0 and not _BLANK.search(text):
            return ""
    except ValueError:
        pass  # an invalid port, unbalanced brackets
    shown = text.rsplit("@", 1)[-1]  # never a password
    return f"invalid server URL {shown!r}: write one such as nats://192.0.2.10:4222"


_SCHEMES = ("nats", "tls")
_BLANK = re.compile(r"[\s\x00-\x1f]")
