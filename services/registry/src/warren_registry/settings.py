"""The settings of the registry's processes; `docs/interfaces.md` has the table."""

from pathlib import Path

from warren_contracts.names import PublicKey
from warren_service.process import ServiceSettings
from warren_store.settings import PostgresSettings


class DatabaseSettings(PostgresSettings, ServiceSettings):
    """The database; enough for `bootstrap_token`. The password comes by PGPASSFILE, never in the URL."""


class RegistrySettings(DatabaseSettings):
    """The registry signs the directory, and (as the only one) trust documents."""

    signing_key_file: Path
    root_key_file: Path
    policy_public_key: PublicKey
