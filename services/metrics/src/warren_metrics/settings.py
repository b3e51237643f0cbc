"""The settings of the metrics service; `docs/interfaces.md` has the table."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from warren_bus.errors import InvalidSettingError
from warren_contracts.names import PublicKey
from warren_service.process import ServiceSettings
from warren_service.server_certificate import ServerCertificate, configured_certificate, is_loopback
from warren_store.settings import PostgresSettings


class MetricsSettings(PostgresSettings, ServiceSettings):
    """Settings next to those of the bus (`warren_bus.settings.BusSettings`)."""

    policy_public_key: PublicKey  # verifies the policies, which say whose the explicit tunnels are
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=9400, ge=1, le=65_535)
    metrics_cert_file: Path | None = None
    metrics_key_file: Path | None = None
    metrics_client_ca_file: Path | None = None  # scrapers need a certificate of one of these CAs
    metrics_cleartext: Literal["", "allow"] = ""  # HTTP beyond loopback
    metrics_alias_names: Literal["on", "off"] = "off"  # the untyped names of `docs/monitoring.md`, too
    metrics_token_file: Path | None = None  # a bearer token that `/metrics` requires

    history_days: int = Field(default=30, ge=1, le=3_650)  # what is older is removed

    def certificate(self) -> ServerCertificate | None:
        """What HTTPS is served with; None: HTTP, on loopback or where it was asked for. Raises InvalidSettingError."""
        found = configured_certificate(
            "WARREN_METRICS", self.metrics_cert_file, self.metrics_key_file, clients=self.metrics_client_ca_file
        )
        if found is None and not self.metrics_cleartext and not is_loopback(self.metrics_host):
            reason = "is not set: beyond loopback name a certificate and its key, or set WARREN_METRICS_CLEARTEXT=allow"
            raise InvalidSettingError({"WARREN_METRICS_CERT_FILE": reason})
        return found
