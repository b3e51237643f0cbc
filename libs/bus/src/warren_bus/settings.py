"""Settings of the connection to the bus."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from warren_bus.errors import InvalidSettingError, MissingSettingError
from warren_bus.tls import CA_FILE
from warren_trust.errors import InvalidKeyError
from warren_trust.keys import KeyKind, KeyPair, raw_public_key, read_seed

NATS_URL = "WARREN_NATS_URL"
NKEY_FILE = "WARREN_NKEY_FILE"
CALLER_KEYS = "WARREN_CALLER_KEYS"
SERVER_NAME = "WARREN_NATS_SERVER_NAME"
CLEARTEXT = "WARREN_NATS_CLEARTEXT"
ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class BusSettings:
    """How to reach the bus: server URLs, and the file (0600) that holds the seed of our user nkey.

    `token` is a join token: sent on the one connection before enrolment, and never shown. `caller_keys`: the public keys by which a
    service verifies calls of others, by their names. `ca_file`: the CAs (PEM) that vouch for the servers, needed for `tls://`.
    `server_name`: what their certificates must be for, if not the host in the URL. `cleartext`: `nats://` is accepted elsewhere than
    on the loopback, too: for a lab only.

    Raises InvalidSettingError for a server that would be reached in clear text, and for TLS without a CA.
    """

    servers: tuple[str, ...]
    nkey_file: Path
    token: str = field(default="", repr=False)
    caller_keys: Mapping[str, str] = field(default_factory=dict)
    ca_file: Path | None = None
    server_name: str = ""
    cleartext: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "servers", tuple(map(server_url, self.servers)))
        for server in self.servers:
            if not self.cleartext and (wrong := wrong_scheme(server)):
                raise InvalidSettingError({NATS_URL: f"is invalid: {wrong}"})
            if server.startswith("tls:") and self.ca_file is None:
                raise InvalidSettingError({CA_FILE: f"is not set: {server} needs the CA that vouches for the server"})

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "BusSettings":
        """Read `WARREN_NATS_URL`, `WARREN_NKEY_FILE`, `WARREN_CA_FILE` (for TLS) and, of a service that is called,
        `WARREN_CALLER_KEYS`; also `WARREN_NATS_SERVER_NAME` and `WARREN_NATS_CLEARTEXT=allow`.

        Raises MissingSettingError with the missing variable, InvalidSettingError.
        """
        given = os.environ if environ is None else environ
        for variable in (NATS_URL, NKEY_FILE):
            if not given.get(variable):
                raise MissingSettingError(variable)
        callers = parse_caller_keys(given.get(CALLER_KEYS, ""))
        return cls(
            parse_servers(given[NATS_URL]),
            Path(given[NKEY_FILE]),
            caller_keys=callers,
            ca_file=Path(given[CA_FILE]) if given.get(CA_FILE) else None,
            server_name=given.get(SERVER_NAME, ""),
            cleartext=given.get(CLEARTEXT) == ALLOW,
        )

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
    """Why the URL of a server is invalid; empty: it is valid. A bare `host` or `host:port` means `tls://`."""
    try:
        url = urlsplit(server_url(text))
        if url.scheme in _SCHEMES and url.hostname and url.port != 0 and not _BLANK.search(text):
            return ""
    except ValueError:
        pass  # an invalid port, unbalanced brackets
    shown = text.rsplit("@", 1)[-1]  # never a password
    return f"invalid server URL {shown!r}: write one such as tls://192.0.2.10:4222"


def server_url(text: str) -> str:
    """The URL of a server: a bare `host` or `host:port` is reached by TLS."""
    return text if "://" in text else f"tls://{text}"


def wrong_scheme(server: str) -> str:
    """Why a server must not be reached in clear text; empty: it is by TLS, or on the loopback."""
    url = urlsplit(server_url(server))
    if url.scheme != "nats" or is_loopback(url.hostname or ""):
        return ""
    return f"{server} is clear text, which is accepted on the loopback only: write tls://{server.partition('://')[2]}"


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


_SCHEMES = ("nats", "tls")
_BLANK = re.compile(r"[\s\x00-\x1f]")
