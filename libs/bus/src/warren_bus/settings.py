"""Settings of the connection to the bus."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from warren_bus.errors import InvalidSettingError, MissingSettingError
from warren_trust.errors import InvalidKeyError
from warren_trust.keys import KeyKind, KeyPair, raw_public_key, read_seed

NATS_URL = "WARREN_NATS_URL"
NKEY_FILE = "WARREN_NKEY_FILE"
CALLER_KEYS = "WARREN_CALLER_KEYS"


@dataclass(frozen=True, slots=True)
class BusSettings:
    """How to reach the bus: server URLs, and the file (0600) that holds the seed of our user nkey.

    `token` is a join token: sent on the one connection before enrolment, and never shown. `caller_keys`: the public keys by which a
    service verifies calls of others, by their names.
    """

    servers: tuple[str, ...]
    nkey_file: Path
    token: str = field(default="", repr=False)
    caller_keys: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "BusSettings":
        """Read `WARREN_NATS_URL`, `WARREN_NKEY_FILE` and, of a service that is called, `WARREN_CALLER_KEYS`.

        Raises MissingSettingError with the missing variable, InvalidSettingError.
        """
        given = os.environ if environ is None else environ
        for variable in (NATS_URL, NKEY_FILE):
            if not given.get(variable):
                raise MissingSettingError(variable)
        callers = parse_caller_keys(given.get(CALLER_KEYS, ""))
        return cls(parse_servers(given[NATS_URL]), Path(given[NKEY_FILE]), caller_keys=callers)

    def key(self) -> KeyPair:
        """The user key; raises InvalidKeyError."""
        return read_seed(self.nkey_file, KeyKind.USER)


def parse_caller_keys(text: str) -> dict[str, str]:
    """`<service>=<public key>`, separated by commas; raises InvalidSettingError."""
    keys: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, key = item.partition("=")
        try:
            raw_public_key(key)
        except InvalidKeyError as error:
            raise InvalidSettingError({CALLER_KEYS: f"is invalid: the key of {name!r} is {error}"}) from None
        keys[name] = key
    return keys


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
