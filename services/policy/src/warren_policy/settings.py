"""The settings of the policy service; `docs/interfaces.md` has the table."""

from pathlib import Path

from pydantic import Field

from warren_contracts.names import PublicKey
from warren_service.process import ServiceSettings


class PolicySettings(ServiceSettings):
    """In addition to those of the bus (`warren_bus.settings.BusSettings`)."""

    postgres_dsn: str = Field(repr=False)
    signing_key_file: Path
    root_public_key: PublicKey  # of the trust root: what it has signed is an epoch
