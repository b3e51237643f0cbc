"""The fleet's directory, asked from the registry: page by page once, and after that only what has changed."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from nats.aio.client import Client

from warren_bus import rpc
from warren_bus.errors import BusError
from warren_contracts import subjects
from warren_contracts.commands import FleetDirectory, ReadDirectory
from warren_contracts.peers import PeerRecord
from warren_contracts.problems import WarrenError
from warren_policy.errors import RegistryUnavailableError
from warren_policy.ports import FleetRecords
from warren_trust.errors import TrustError

PAGE = 500  # records; some 500 kB of JSON
TIMEOUT = 5.0  # s a page


class _DirectorySnapshot(NamedTuple):
    """The directory as it was at a revision of an epoch. Never changed: a newer one replaces it."""

    epoch: int = 0
    revision: int = 0
    records: Mapping[str, PeerRecord] = MappingProxyType({})


class RegistryDirectory:
    """`Directory` by `rpc.registry.directory`."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client
        self._held = _DirectorySnapshot()

    async def fleet(self) -> FleetRecords:
        held = self._held
        page = await self._page(ReadDirectory(limit=PAGE, epoch=held.epoch, since=held.revision))
        if page.since:
            held, tags = await self._with_changes(held, page)
        else:
            held, tags = await self._read(page)
        self._held = held
        return FleetRecords(held.records, tags)

    async def _read(self, first: FleetDirectory) -> tuple[_DirectorySnapshot, frozenset[str]]:
        """The whole directory. It is as old as its first page: what changes while it is read counts as changed after that."""
        records, tags, page = dict[str, PeerRecord](), set[str](), first
        while True:
            records.update((record.peer, record) for record in page.peers if not record.withdrawn)
            tags.update(page.tags)
            if page.next_after is None:
                return _DirectorySnapshot(first.epoch, first.revision, records), frozenset(tags)
            page = await self._page(ReadDirectory(after=page.next_after, limit=PAGE))

    async def _with_changes(
        self, held: _DirectorySnapshot, page: FleetDirectory
    ) -> tuple[_DirectorySnapshot, frozenset[str]]:
        """The directory after these changes, and those that follow them."""
        if not (page.peers or page.removed):
            return held._replace(revision=page.revision), frozenset(page.tags)
        records = dict(held.records)
        while True:
            records.update((record.peer, record) for record in page.peers)
            for peer in page.removed:
                records.pop(peer, None)
            if not page.more:
                return _DirectorySnapshot(page.epoch, page.revision, records), frozenset(page.tags)
            page = await self._page(ReadDirectory(limit=PAGE, epoch=page.epoch, since=page.revision))
            if not page.since:  # another epoch meanwhile
                return await self._read(page)

    async def _page(self, request: ReadDirectory) -> FleetDirectory:
        subject = subjects.rpc("registry", "directory")
        try:
            return await rpc.call(self._client(), subject, request, FleetDirectory, TIMEOUT)
        except (WarrenError, BusError, TrustError) as error:
            raise RegistryUnavailableError(
                f"the registry is unavailable, and policies are checked against its directory: nothing was stored ({error})"
            ) from None
