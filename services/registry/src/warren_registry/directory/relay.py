"""Publish the rows of the directory that are not published yet, additions before withdrawals.

The marks belong to one incarnation of the stream. A stream that was re-created, or is behind the marks (a restore), gets every
record again.
"""

import asyncio
from datetime import datetime, timedelta
from itertools import groupby
from typing import Protocol

import structlog

from warren_bus.errors import NotStoredError
from warren_registry.ports import Database, PendingRecord, PublishedRecord
from warren_service.restore_guard import RestoreGuard

AT_ONCE = 64  # acknowledgements awaited at a time
PAGE = 1_000
# A peer that was offline for longer reads a complete snapshot in any case.
TOMBSTONE_LIFETIME = timedelta(days=30)

log = structlog.get_logger(__name__)


class StreamProgress(Protocol):
    @property
    def incarnation(self) -> str: ...
    @property
    def last_sequence(self) -> int: ...


class RecordStream(Protocol):
    """The stream DIRECTORY."""

    async def wait_declared(self) -> None: ...
    async def state(self) -> StreamProgress: ...
    async def publish(self, record: PendingRecord) -> int:
        """Store a record unless it is stored already; returns its sequence. Raises NotStoredError."""
        ...


class DirectoryRelay:
    """Publishes pending rows to the stream."""

    def __init__(self, database: Database, stream: RecordStream, restore_guard: RestoreGuard) -> None:
        self._database = database
        self._stream = stream
        self._restore_guard = restore_guard
        self.declared = False

    def disconnected(self) -> None:
        """Compare the stream again after a reconnect: it may be another one."""
        self.declared = False

    async def step(self) -> int:
        """Publish all pending records; returns their number. Raises as its parts do."""
        if not self.declared:
            await self._stream.wait_declared()
            await self._compare_incarnation()
            self.declared = True
        done = 0
        while True:
            async with self._database.transaction() as tables:
                pending = await tables.directory.pending(PAGE)
            for epoch in {record.epoch for record in pending}:
                self._restore_guard.check(epoch)
            for _, records in groupby(pending, key=lambda record: record.withdrawn):
                done += await self._publish(tuple(records))
            if len(pending) < PAGE:
                return done

    async def reclaim(self, now: datetime) -> None:
        """Delete withdrawals that every agent has received by now; digests state up to which revision."""
        async with self._database.transaction() as tables:
            highest = await tables.directory.reclaim(now - TOMBSTONE_LIFETIME)
            if highest:
                await tables.fleet.set_tombstones_reclaimed(highest)
                log.info("directory.reclaimed", revision=highest)

    async def _compare_incarnation(self) -> None:
        current = await self._stream.state()
        async with self._database.transaction() as tables:
            known = (await tables.fleet.state()).stream_incarnation
            if known == current.incarnation and await tables.directory.last_sequence() <= current.last_sequence:
                return
            await tables.directory.publish_all_again()
            await tables.fleet.set_stream_incarnation(current.incarnation)
        log.info("directory.new_stream", incarnation=current.incarnation, sequence=current.last_sequence)

    async def _publish(self, records: tuple[PendingRecord, ...]) -> int:
        """Publish records of one kind, many at a time; stored ones are marked, also if others failed."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(record: PendingRecord) -> PublishedRecord:
            async with limit:
                return PublishedRecord(record.place, record.revision, await self._stream.publish(record))

        results = await asyncio.gather(*map(one, records), return_exceptions=True)
        stored = [result for result in results if isinstance(result, PublishedRecord)]
        async with self._database.transaction() as tables:
            await tables.directory.mark_published(stored)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            raise failures[0] if isinstance(failures[0], Exception) else NotStoredError(str(failures[0]))
        return len(stored)
