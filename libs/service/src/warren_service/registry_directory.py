"""The registry's directory, read page by page once, and after that only what has changed.

Each service stores of a record what it needs: 10,000 small records take 15 MB of memory, their tags 2 MB.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from nats.aio.client import Client

from warren_bus import rpc
from warren_contracts import subjects
from warren_contracts.commands import FleetDirectory, ReadDirectory
from warren_contracts.names import PeerId, Tag
from warren_contracts.peers import PeerRecord
from warren_contracts.problems import UnavailableError, WarrenError

PAGE = 500  # records; some 500 kB of JSON
TIMEOUT = 5.0  # s a page

StoredT = TypeVar("StoredT")


@dataclass(frozen=True, slots=True)
class DirectorySnapshot(Generic[StoredT]):
    """The directory at a revision of an epoch: what is stored of each peer's record, and the tags of peers and usable join tokens.

    `peers` is another mapping after every change of a record, and the same one otherwise.
    """

    epoch: int
    revision: int
    peers: Mapping[PeerId, StoredT]
    tags: frozenset[Tag]


class RegistryDirectory(Generic[StoredT]):
    """Reads by `rpc.registry.directory`; `stored` returns what to store of a record."""

    def __init__(self, client: Callable[[], Client], stored: Callable[[PeerRecord], StoredT]) -> None:
        self._client = client
        self._stored = stored
        self._newest: DirectorySnapshot[StoredT] = DirectorySnapshot(0, 0, {}, frozenset())

    async def read(self) -> DirectorySnapshot[StoredT]:
        """The directory now. Raises UnavailableError, BusError or TrustError; the next call begins where the last one succeeded."""
        known = self._newest
        page = await self._page(ReadDirectory(limit=PAGE, epoch=known.epoch, since=known.revision))
        self._newest = await (self._changed(known, page) if page.since else self._whole(page))
        return self._newest

    async def _whole(self, first: FleetDirectory) -> DirectorySnapshot[StoredT]:
        """The whole directory. It is as old as its first page: what changes while it is read counts as changed after that."""
        peers, tags, page = dict[PeerId, StoredT](), set[Tag](), first
        while True:
            peers.update((record.peer, self._stored(record)) for record in page.peers if not record.withdrawn)
            tags.update(page.tags)
            if page.next_after is None:
                return DirectorySnapshot(first.epoch, first.revision, peers, frozenset(tags))
            page = await self._page(ReadDirectory(after=page.next_after, limit=PAGE))

    async def _changed(self, known: DirectorySnapshot[StoredT], page: FleetDirectory) -> DirectorySnapshot[StoredT]:
        """The directory after these changes, and those that follow them."""
        if not (page.peers or page.removed):
            return replace(known, revision=page.revision, tags=frozenset(page.tags))
        peers = dict(known.peers)
        while True:
            peers.update((record.peer, self._stored(record)) for record in page.peers)
            for peer in page.removed:
                peers.pop(peer, None)
            if not page.more:
                return DirectorySnapshot(page.epoch, page.revision, peers, frozenset(page.tags))
            page = await self._page(ReadDirectory(limit=PAGE, epoch=page.epoch, since=page.revision))
            if not page.since:  # another epoch meanwhile
                return await self._whole(page)

    async def _page(self, request: ReadDirectory) -> FleetDirectory:
        subject = subjects.rpc("registry", "directory")
        try:
            return await rpc.call(self._client(), subject, request, FleetDirectory, TIMEOUT)
        except UnavailableError:
            raise
        except WarrenError as error:  # an unknown key, for instance: the registry's setting may be corrected meanwhile
            raise UnavailableError(f"the registry does not list its directory: {error}") from None
