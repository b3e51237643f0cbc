"""The settings of the policy service; `docs/interfaces.md` has the table."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PolicySettings(BaseSettings):
    """Beside those of the bus (`warren_bus.settings.BusSettings`)."""

    model_config = SettingsConfigDict(env_prefix="WARREN_", frozen=True, extra="ignore")

    postgres_dsn: str = Field(repr=False)
    signing_key_file: Path
    stream_replicas: int = Field(default=1, ge=1, le=5)  # of POLICY and EVENT; 3 on a cluster of three servers
    log_format: str = ""
    log_level: str = "info"
