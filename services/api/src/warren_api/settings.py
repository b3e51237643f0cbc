"""Settings of the API server next to those of the bus."""

from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, Field

from warren_service.process import ServiceSettings


def _networks(text: str) -> str:
    for part in filter(None, text.split(",")):
        ip_network(part.strip())  # ValueError: invalid
    return text


class ApiSettings(ServiceSettings):
    """`WARREN_HTTP_HOST`, `WARREN_HTTP_PORT`, `WARREN_TRUSTED_PROXIES`; the API server has no database.

    `trusted_proxies`: addresses or networks by comma, whose `X-Forwarded-For` names the client; empty: nobody's.
    """

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8400
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
