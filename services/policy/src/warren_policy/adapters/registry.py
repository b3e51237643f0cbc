"""The fleet's directory, asked page by page from the registry."""

from collections.abc import Callable

from nats.aio.client import Client

from warren_bus import rpc
from warren_bus.errors import BusError
from warren_contracts import subjects
from warren_contracts.commands import FleetDirectory, Page
from warren_contracts.peers import PeerRecord
from warren_contracts.problems import WarrenError
from warren_policy.errors import RegistryUnavailableError
from warren_policy.ports import FleetRecords
from warren_trust.errors import TrustError

PAGE = 500  # records; some 500 kB of JSON
TIMEOUT = 5.0  # s a page


class RegistryDirectory:
    """`Directory` by `rpc.registry.directory`."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    async def fleet(self) -> FleetRecords:
        records: dict[str, PeerRecord] = {}
        tags: set[str] = set()
        after: str | None = ""
        while after is not None:
            page = await self._page(after)
            records.update((record.peer, record) for record in page.peers if not record.withdrawn)
            tags.update(page.tags)
            after = page.next_after
        return FleetRecords(records, frozenset(tags))

    async def _page(self, after: str) -> FleetDirectory:
        subject = subjects.rpc("registry", "directory")
        try:
            return await rpc.call(self._client(), subject, Page(after=after, limit=PAGE), FleetDirectory, TIMEOUT)
        except (WarrenError, BusError, TrustError) as error:
            raise RegistryUnavailableError(
                f"the registry is unavailable, and policies are checked against its directory: nothing was stored ({error})"
            ) from None
