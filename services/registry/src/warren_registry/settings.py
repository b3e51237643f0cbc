"""Settings by environment (docs/interfaces.md). The process says which one is missing and exits with 2."""

import sys
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from warren_bus.errors import BusError
from warren_bus.settings import BusSettings
from warren_contracts.names import PublicKey

EXIT_CONFIGURATION = 2


class DatabaseSettings(BaseSettings):
    """Where the rows are; enough for `bootstrap_token`. The password comes by PGPASSFILE, never in the URL."""

    model_config = SettingsConfigDict(env_prefix="WARREN_", frozen=True, hide_input_in_errors=True)

    postgres_dsn: str = Field(repr=False)
    log_format: str = ""
    log_level: str = "info"


class CalloutSettings(DatabaseSettings):
    """The auth callout holds the key by which the server believes it, and no other."""

    issuer_key_file: Path


class RegistrySettings(DatabaseSettings):
    """The registry signs the directory, and (as the only one) trust documents."""

    signing_key_file: Path
    root_key_file: Path
    policy_public_key: PublicKey
    stream_replicas: int = Field(default=1, ge=1, le=5)  # of DIRECTORY and SECRET; 3 on a cluster of three servers


SettingsT = TypeVar("SettingsT", bound=DatabaseSettings)


def load(kind: type[SettingsT]) -> SettingsT:
    """The settings of this process; ends it with a line for each one that is missing or wrong."""
    try:
        return kind()
    except ValidationError as error:
        for found in error.errors(include_url=False, include_input=False):
            name = "WARREN_" + "_".join(str(part) for part in found["loc"]).upper()
            reason = "is not set" if found["type"] == "missing" else f"is wrong: {found['msg']}"
            print(f"{name} {reason}: see docs/interfaces.md", file=sys.stderr)
        raise SystemExit(EXIT_CONFIGURATION) from None


def load_bus() -> BusSettings:
    """The bus's settings, their key read once to see that it can be; ends the process with the reason otherwise."""
    try:
        settings = BusSettings.from_env()
        settings.key()
    except BusError as error:
        print(error, file=sys.stderr)
        raise SystemExit(EXIT_CONFIGURATION) from None
    return settings
