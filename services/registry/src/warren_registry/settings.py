"""The settings of the registry's processes; `docs/interfaces.md` has the table."""

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from warren_contracts.addresses import IPAddress
from warren_contracts.names import PublicKey
from warren_service.process import ServiceSettings
from warren_store.settings import PostgresSettings


class DatabaseSettings(PostgresSettings, ServiceSettings):
    """The database; enough for `bootstrap_token`. The password comes by PGPASSFILE, never in the URL."""


class RegistrySettings(DatabaseSettings):
    """The registry signs the directory, and (as the only one) trust documents."""

    signing_key_file: Path
    root_key_file: Path
    policy_public_key: PublicKey
    bus_addresses: str = ""  # addresses and names by which agents reach the bus, separated by commas

    @property
    def bus_servers(self) -> tuple[IPAddress, ...]:
        """The addresses of `bus_addresses`; what a name stands for is not known."""
        found = []
        for word in self.bus_addresses.split(","):
            with suppress(ValueError):
                found.append(ip_address(word.strip()))
        return tuple(found)
