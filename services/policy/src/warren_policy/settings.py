"""The settings of the policy service; `docs/interfaces.md` has the table."""

from pathlib import Path

from warren_contracts.names import PublicKey
from warren_service.process import ServiceSettings
from warren_store.settings import PostgresSettings


class PolicySettings(PostgresSettings, ServiceSettings):
    """In addition to those of the bus (`warren_bus.settings.BusSettings`)."""

    signing_key_file: Path
    root_public_key: PublicKey  # of the trust root: what it has signed is an epoch
