"""The fleet's directory, asked from the registry for every check."""

from collections.abc import Callable

from nats.aio.client import Client

from warren_bus.errors import BusError
from warren_contracts.peers import PeerRecord
from warren_contracts.problems import UnavailableError
from warren_policy.errors import RegistryUnavailableError
from warren_policy.ports import FleetRecords
from warren_service.registry_directory import RegistryDirectory
from warren_trust.errors import TrustError


def _whole(record: PeerRecord) -> PeerRecord:
    return record


class CheckedDirectory:
    """`Directory` with whole records: policies are checked against them."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._directory = RegistryDirectory(client, _whole)

    async def fleet(self) -> FleetRecords:
        try:
            found = await self._directory.read()
        except (UnavailableError, BusError, TrustError) as error:
            raise RegistryUnavailableError(
                f"the registry is unavailable, and policies are checked against its directory: nothing was stored ({error})"
            ) from None
        return FleetRecords(found.peers, found.tags)
