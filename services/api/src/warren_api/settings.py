"""Settings of the API server next to those of the bus."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from warren_bus.errors import InvalidSettingError
from warren_contracts.addresses import IPNetwork
from warren_service.process import ServiceSettings
from warren_service.server_certificate import ServerCertificate, configured_certificate, is_loopback


def _parse_networks(text: str) -> tuple[IPNetwork, ...]:
    """Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def _networks(text: str) -> str:
    _parse_networks(text)
    return text


class ApiSettings(ServiceSettings):
    """`WARREN_HTTP_...`, `WARREN_TRUSTED_PROXIES` and `WARREN_SESSION_...`; the API server has no database.

    `trusted_proxies`: addresses or networks by comma, whose `X-Forwarded-For` names the client; empty: nobody's.
    """

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65_535)] = 8400
    http_cert_file: Path | None = None  # PEM: the certificate, then intermediate ones
    http_key_file: Path | None = None
    http_cleartext: Literal["", "allow"] = ""
    http_hsts_seconds: Annotated[int, Field(ge=0)] = 31_536_000  # a year; 0: no such header
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
    session_seconds: Annotated[int, Field(ge=60)] = 43_200  # of a browser that is signed in: 12 hours
    session_idle_seconds: Annotated[int, Field(ge=60)] = 3_600  # without a request, as with the page closed

    def proxies(self) -> tuple[IPNetwork, ...]:
        """The trusted proxies."""
        return _parse_networks(self.trusted_proxies)

    def certificate(self) -> ServerCertificate | None:
        """What HTTPS is served with; None: HTTP, which was asked for and is on loopback only. Raises InvalidSettingError."""
        found = configured_certificate("WARREN_HTTP", self.http_cert_file, self.http_key_file, ("http/1.1",))
        if found is not None:
            return found
        if not self.http_cleartext:
            raise InvalidSettingError(
                {"WARREN_HTTP_CERT_FILE": "is not set: name a certificate and its key (WARREN_HTTP_KEY_FILE)"}
            )
        if not is_loopback(self.http_host):
            reason = f"must be a loopback address with WARREN_HTTP_CLEARTEXT=allow, and is {self.http_host}: name a certificate"
            raise InvalidSettingError({"WARREN_HTTP_HOST": reason})
        return None
