"""Settings of the gateway beside those of the bus."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class GatewaySettings(BaseSettings):
    """`WARREN_HTTP_HOST`, `WARREN_HTTP_PORT`, `WARREN_LOG_FORMAT`, `WARREN_LOG_LEVEL`."""

    model_config = SettingsConfigDict(env_prefix="WARREN_", extra="ignore", frozen=True)

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8400
    log_format: str = ""
    log_level: Annotated[str, Field(pattern="^(?i:debug|info|warning|error)$")] = "info"
