"""How the bus is reached, as the trust document states it: from the settings, and the file of CAs whenever that is replaced."""

from pathlib import Path

import structlog

from warren_bus.errors import InvalidSettingError
from warren_bus.settings import server_url
from warren_bus.tls import read_authorities
from warren_registry.epoch.trust import BusAccess

log = structlog.get_logger(__name__)


class BusAccessFile:
    """Called for the current access. A file that cannot be read keeps what it said before."""

    def __init__(self, servers: str, ca_file: Path | None) -> None:
        """`servers`: URLs by comma. Raises InvalidSettingError for an unusable file."""
        urls = tuple(server_url(part.strip()) for part in servers.split(",") if part.strip())
        self._ca_file = ca_file
        self._access = BusAccess(urls, read_authorities(ca_file) if ca_file is not None else ())

    def __call__(self) -> BusAccess:
        if self._ca_file is not None:
            try:
                authorities = read_authorities(self._ca_file)
            except InvalidSettingError as error:
                log.error("trust.ca_file_unusable", error=str(error))
            else:
                self._access = BusAccess(self._access.servers, authorities)
        return self._access
