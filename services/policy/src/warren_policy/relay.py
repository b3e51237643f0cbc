"""The relay: from the outbox to the bus, strictly in the order of revisions, each until it is certainly there.

It sleeps until something says that there may be work: a commit of this process, a NOTIFY of another one, a bus or a
database that is back. Each try takes the oldest unpublished revision, publishes its sets, then its events, and records
it; a try that fails anywhere is repeated whole, which changes nothing that is there already. So neither a bus nor a
database nor this process may die at a bad moment: the outbox is what remains to be done.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from warren_bus import tracing
from warren_contracts.problems import UnavailableError
from warren_contracts.subjects import Audience
from warren_policy.errors import NotPublishedError, OutboxBusyError, StoreBehindStreamError
from warren_policy.ports import Outbox, OutboxQueue, PolicyStore, Publisher
from warren_process.backoff import Backoff
from warren_service.restore_guard import RestoredFromBackupError, RestoreGuard
from warren_trust.signing import Version

FIRST_PAUSE = 0.05  # s after the first failed try, doubled each time
LONGEST_PAUSE = 5.0  # s
BUSY_PAUSE = 1.0  # s until another relay is looked for again: it may have died with its work undone

log = structlog.get_logger(__name__)


class PolicyRelay:
    """Run `run()` as a task; `wake()` it when there may be work."""

    def __init__(
        self, store: PolicyStore, queue: OutboxQueue, publisher: Publisher, restore_guard: RestoreGuard, *,
        now: Callable[[], datetime],
    ) -> None:  # fmt: skip
        self._store = store
        self._queue = queue
        self._publisher = publisher
        self._restore_guard = restore_guard
        self._now = now
        self.held: Mapping[Audience, Version] = {}  # what the stream held when it was last compared
        self._work = asyncio.Event()
        self._attempt: asyncio.Task[None] | None = None
        self._compare = True  # whether the stream is to be compared with the database
        self.blocked_reason = ""  # why the last try failed; empty: it did not
        self._said = ""

    def wake(self) -> None:
        """There may be something to publish."""
        self._work.set()

    def bus_returned(self) -> None:
        """The bus was unavailable and may have lost its storage: compare it with the database, then go on."""
        self._compare = True
        self._work.set()

    def bus_lost(self) -> None:
        """The bus is gone: an acknowledgement that is waited for will not come, so the try is given up at once."""
        if self._attempt is not None:
            self._attempt.cancel()

    async def run(self) -> None:
        """Publish forever; cancel to stop. A cancelled try is repeated by the next start."""
        self._work.set()
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._try()
                backoff.reset()
                self.blocked_reason = self._said = ""
                continue
            except OutboxBusyError:
                wait = BUSY_PAUSE
            except RestoredFromBackupError as error:  # reported by its own name in health
                self._report(error)
                self.blocked_reason, wait = "", LONGEST_PAUSE
            except (NotPublishedError, UnavailableError, StoreBehindStreamError) as error:
                self._report(error)
                wait = backoff.next_s()
            await self._wait(wait)

    async def _try(self) -> None:
        """One try in a task of its own, which `bus_lost` can end; NotPublishedError then."""
        self._attempt = asyncio.create_task(self._drain(), name="policy:relay")
        try:
            await asyncio.wait({self._attempt})
        finally:
            if not self._attempt.done():  # we are stopped ourselves: let it give its connection back
                self._attempt.cancel()
                await asyncio.wait({self._attempt})
        if self._attempt.cancelled():
            raise NotPublishedError("the bus became unavailable")
        await self._attempt

    async def _wait(self, seconds: float) -> None:
        """Pause, but no longer than until something happens; then work again."""
        try:
            async with asyncio.timeout(seconds):
                await self._work.wait()
        except TimeoutError:
            self._work.set()

    def _report(self, error: Exception) -> None:
        blocked_reason = str(error)
        if blocked_reason != self._said:
            log.warning("policy.not_published", error=blocked_reason, kind=type(error).__name__)
        self.blocked_reason = self._said = blocked_reason

    async def _drain(self) -> None:
        if self._compare:
            await self._compare_stream()
            self._compare = False
        if self._restore_guard.behind:
            self._restore_guard.check((await self._store.version())[0])
        while await self._publish_oldest():
            pass

    async def _publish_oldest(self) -> bool:
        async with self._queue.next() as ticket:
            if ticket is None:
                return False
            outbox = ticket.outbox
            try:
                await self._publisher.publish_sets(outbox)
            except StoreBehindStreamError:
                self._compare = True  # the database was restored while we ran
                raise
            delivered = self._now()
            await self._publisher.publish_events(outbox)
            await ticket.done()
        self._log_delivery(outbox, delivered)
        return True

    async def _compare_stream(self) -> None:
        """See which of both is older. A stream that has lost its storage gets its sets again; a database that is behind its
        stream was restored from a backup, and publishes nothing before a new epoch."""
        known = await self._queue.published()
        self.held = await self._publisher.held()
        own = await self._store.version()  # read last: what others publish meanwhile was stored before
        self._restore_guard.compare(self.held.values(), own)
        missing = [
            reader for reader, version in known.items()
            if version > self.held.get(reader, (0, 0)) and not self._restore_guard.behind
        ]  # fmt: skip
        for reader in sorted(missing, key=lambda reader: (known[reader], reader)):
            await self._publisher.publish_sets(await self._queue.published_set(reader))
        if missing:
            log.warning("policy.stream_restored", sets=len(missing))

    def _log_delivery(self, outbox: Outbox, delivered: datetime) -> None:
        with tracing.continued({tracing.HEADER: outbox.traceparent}):
            log.info(
                "policy.published", epoch=outbox.epoch, revision=outbox.revision, sets=len(outbox.sets),
                events=len(outbox.events), latency_ms=round((delivered - outbox.at).total_seconds() * 1_000, 2),
            )  # fmt: skip
