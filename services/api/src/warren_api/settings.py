"""Settings of the API server next to those of the bus."""

from typing import Annotated

from pydantic import Field

from warren_service.process import ServiceSettings


class ApiSettings(ServiceSettings):
    """`WARREN_HTTP_HOST`, `WARREN_HTTP_PORT`; the API server has no database."""

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8400
