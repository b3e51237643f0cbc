"""Digests: the content that each reader should have. They reveal a lost last message, which no sequence number can.

One is published every minute for every reader, and soon after a change for the readers that it concerns. Also for one without records and
policies: an agent that misses the digests of one of its readers reports that its intent is not confirmed.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

import structlog

from warren_contracts.documents import ReaderDigest
from warren_contracts.names import PeerId
from warren_contracts.problems import UnavailableError
from warren_contracts.subjects import Audience, readers_of
from warren_registry.directory.model import PublishedState, RecordKey, Summary, summaries, summary
from warren_registry.peers.model import Peer
from warren_registry.ports import Database
from warren_service.policy_view import PolicyView
from warren_service.restore_guard import RestoreGuard

INTERVAL = 60.0  # s
AT_ONCE = 64  # acknowledgements awaited at a time
NO_RECORDS = summary({})

log = structlog.get_logger(__name__)


class DigestStream(Protocol):
    async def publish_digest(self, digest: ReaderDigest) -> None: ...


class Content(Protocol):
    """The published records of all readers, and the peers whose readers they are."""

    @property
    def peers(self) -> Mapping[PeerId, Peer]: ...
    @property
    def published(self) -> Mapping[RecordKey, PublishedState]: ...
    @property
    def epoch(self) -> int:
        """The epoch of the last complete publication; 0: none yet."""
        ...


class Digests:
    """The newest digest of every reader."""

    def __init__(
        self,
        database: Database,
        content: Content,
        policies: "PolicyViewSource",
        stream: DigestStream,
        restore_guard: RestoreGuard,
    ) -> None:
        self._database = database
        self._restore_guard = restore_guard
        self._content = content
        self._policies = policies
        self._stream = stream
        self._summaries: dict[Audience, Summary] = {}
        self._published: dict[Audience, ReaderDigest] = {}
        self.epoch = 0  # of the newest publication
        self._revision = 0
        self._reclaimed = 0
        self.trust_revision = 0  # that the newest digests name

    def of(self, reader: Audience) -> ReaderDigest | None:
        """The current digest of a reader; None before the first publication."""
        return self._digest(reader) if self._revision else None

    async def step(self, *, all_readers: bool) -> int:
        """Publish the digests that are due; returns their number. Raises UnavailableError or what nats-py raises."""
        self._summaries = summaries(self._content.published)
        async with self._database.transaction() as tables:
            state = await tables.fleet.state()
            self._restore_guard.check(state.epoch)
            if self._content.epoch != state.epoch:  # a digest without records would void the state of agents
                raise UnavailableError(f"the directory is not published in epoch {state.epoch} yet")
            if not (all_readers or self._changed(state.epoch)):
                return 0
            self._revision = await tables.fleet.next_revision()
            trust = await tables.fleet.last_trust()
            self.trust_revision = trust.revision if trust is not None and trust.epoch == state.epoch else 0
        self.epoch, self._reclaimed = state.epoch, state.tombstones_reclaimed
        due = self._readers() if all_readers else self._changed(state.epoch)
        limit = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for reader in sorted(due):
                group.create_task(self._publish(self._digest(reader), limit))
        return len(due)

    def _readers(self) -> set[Audience]:
        peers = (peer for peer in self._content.peers.values() if not peer.revoked)
        own = {reader for peer in peers for reader in readers_of(peer.id, peer.tags)}
        return own | set(self._summaries) | self._policies.view.readers

    def _changed(self, epoch: int) -> set[Audience]:
        def differs(reader: Audience) -> bool:
            held = self._published.get(reader)
            return held is None or _content(held) != (
                epoch,
                *self._summary(reader),
                self._policies.view.revision(reader),
            )

        return {reader for reader in self._readers() if differs(reader)}

    def _summary(self, reader: Audience) -> Summary:
        return self._summaries.get(reader, NO_RECORDS)

    def _digest(self, reader: Audience) -> ReaderDigest:
        found = self._summary(reader)
        return ReaderDigest(
            reader=reader, epoch=self.epoch, revision=self._revision, directory_count=found.records,
            policy_revision=self._policies.view.revision(reader), directory_hash=found.digest,
            tombstones_reclaimed=self._reclaimed, trust_revision=self.trust_revision,
        )  # fmt: skip

    async def _publish(self, digest: ReaderDigest, limit: asyncio.Semaphore) -> None:
        async with limit:
            await self._stream.publish_digest(digest)
        self._published[digest.reader] = digest


class PolicyViewSource(Protocol):
    """The published policies."""

    @property
    def view(self) -> PolicyView: ...


def _content(digest: ReaderDigest) -> tuple[int, int, str, int]:
    return digest.epoch, digest.directory_count, digest.directory_hash, digest.policy_revision
