"""The settings of the metrics service; `docs/interfaces.md` has the table."""

from pathlib import Path

from pydantic import Field

from warren_contracts.names import PublicKey
from warren_service.process import ServiceSettings


class MetricsSettings(ServiceSettings):
    """Settings next to those of the bus (`warren_bus.settings.BusSettings`)."""

    postgres_dsn: str = Field(repr=False)
    policy_public_key: PublicKey  # verifies the policies, which say whose the explicit tunnels are
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9400, ge=1, le=65_535)
    metrics_token_file: Path | None = None  # a bearer token that `/metrics` requires
