"""Where the bus is and who we are on it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warren_bus.errors import MissingSetting
from warren_bus.keys import KeyKind, KeyPair, read_seed

NATS_URL = "WARREN_NATS_URL"
NKEY_FILE = "WARREN_NKEY_FILE"


@dataclass(frozen=True, slots=True)
class BusSettings:
    """How to reach the bus: server URLs, and the file (0600) that holds the seed of our user nkey.

    `token` is a join token: given on the one connection before enrolment, and never shown.
    """

    servers: tuple[str, ...]
    nkey_file: Path
    token: str = field(default="", repr=False)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "BusSettings":
        """Read `WARREN_NATS_URL` and `WARREN_NKEY_FILE`; raises MissingSetting that names the absent one."""
        given = os.environ if environ is None else environ
        for variable in (NATS_URL, NKEY_FILE):
            if not given.get(variable):
                raise MissingSetting(variable)
        return cls(parse_servers(given[NATS_URL]), Path(given[NKEY_FILE]))

    def key(self) -> KeyPair:
        """The user key; raises BadKey."""
        return read_seed(self.nkey_file, KeyKind.USER)


def parse_servers(text: str) -> tuple[str, ...]:
    """Server URLs separated by commas; raises MissingSetting when there is none."""
    servers = tuple(part.strip() for part in text.split(",") if part.strip())
    if not servers:
        raise MissingSetting(NATS_URL)
    return servers
