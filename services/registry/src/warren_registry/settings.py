"""The settings of the registry's processes; `docs/interfaces.md` has the table."""

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from warren_bus.settings import wrong_scheme, wrong_server
from warren_contracts.addresses import IPAddress
from warren_contracts.names import PublicKey
from warren_service.process import ServiceSettings
from warren_store.settings import PostgresSettings


def _servers(text: str) -> str:
    for server in filter(None, (part.strip() for part in text.split(","))):
        if wrong := wrong_server(server) or wrong_scheme(server):
            raise ValueError(wrong)
    return text


class DatabaseSettings(PostgresSettings, ServiceSettings):
    """The database; enough for `bootstrap_token`. The password comes by PGPASSFILE, never in the URL."""


class RegistrySettings(DatabaseSettings):
    """The registry signs the directory, and (as the only one) trust documents."""

    signing_key_file: Path
    root_key_file: Path
    policy_public_key: PublicKey
    bus_urls: Annotated[str, AfterValidator(_servers)] = ""  # URLs by comma, as agents reach them; empty: not stated
    bus_addresses: str = ""  # addresses and names by which agents reach the bus, separated by commas

    @property
    def bus_servers(self) -> tuple[IPAddress, ...]:
        """The addresses of `bus_addresses`; what a name stands for is not known."""
        found = []
        for word in self.bus_addresses.split(","):
            with suppress(ValueError):
                found.append(ip_address(word.strip()))
        return tuple(found)
