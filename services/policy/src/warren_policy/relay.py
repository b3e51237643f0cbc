"""The relay: from the outbox to the bus, strictly in the order of revisions, each until it is certainly there.

It sleeps until something says that there may be work: a commit of this process, a NOTIFY of another one, a bus or a
database that is back. Each try takes the oldest unpublished revision, publishes its sets, then its events, and records
it; a try that fails anywhere is repeated whole, which changes nothing that is there already. So neither a bus nor a
database nor this process may die at a bad moment: the outbox is what remains to be done.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime

import structlog

from warren_bus import tracing
from warren_contracts.problems import Unavailable
from warren_policy.errors import NotPublished, QueueBusy, StoreBehindStream
from warren_policy.ports import Outbox, OutboxQueue, Publisher

FIRST_PAUSE = 0.05  # s after the first failed try, doubled each time
LONGEST_PAUSE = 5.0  # s
BUSY_PAUSE = 1.0  # s until another relay is looked for again: it may have died with its work undone

log = structlog.get_logger(__name__)


class Relay:
    """Run `run()` as a task; `wake()` it when there may be work."""

    def __init__(self, queue: OutboxQueue, publisher: Publisher, *, now: Callable[[], datetime]) -> None:
        self._queue = queue
        self._publisher = publisher
        self._now = now
        self._work = asyncio.Event()
        self._attempt: asyncio.Task[None] | None = None
        self._restore = True  # whether the stream is to be compared with what was published
        self.trouble = ""  # why the last try failed; empty: it did not

    def wake(self) -> None:
        """There may be something to publish."""
        self._work.set()

    def bus_returned(self) -> None:
        """The bus was away and may have lost its storage: compare it with what was published, then go on."""
        self._restore = True
        self._work.set()

    def bus_lost(self) -> None:
        """The bus is gone: an acknowledgement that is waited for will not come, so the try is given up at once."""
        if self._attempt is not None:
            self._attempt.cancel()

    async def run(self) -> None:
        """Publish for ever; cancel to stop. A cancelled try is repeated by the next start."""
        self._work.set()
        pause = FIRST_PAUSE
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._try()
                pause = FIRST_PAUSE
                self.trouble = ""
                continue
            except QueueBusy:
                wait = BUSY_PAUSE
            except (NotPublished, Unavailable, StoreBehindStream) as error:
                self._report(error)
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
                pause = min(pause * 2, LONGEST_PAUSE)
            await self._wait(wait)

    async def _try(self) -> None:
        """One try in a task of its own, which `bus_lost` can end; NotPublished then."""
        self._attempt = asyncio.create_task(self._drain(), name="policy:relay")
        try:
            await asyncio.wait({self._attempt})
        finally:
            if not self._attempt.done():  # we are stopped ourselves: let it give its connection back
                self._attempt.cancel()
                await asyncio.wait({self._attempt})
        if self._attempt.cancelled():
            raise NotPublished("the bus went away")
        await self._attempt

    async def _wait(self, seconds: float) -> None:
        """Pause, but no longer than until something happens; then work again."""
        try:
            async with asyncio.timeout(seconds):
                await self._work.wait()
        except TimeoutError:
            self._work.set()

    def _report(self, error: Exception) -> None:
        trouble = str(error)
        if trouble != self.trouble:
            log.warning("policy.not_published", reason=trouble, kind=type(error).__name__)
        self.trouble = trouble

    async def _drain(self) -> None:
        if self._restore:
            await self._restore_stream()
            self._restore = False
        while await self._publish_oldest():
            pass

    async def _publish_oldest(self) -> bool:
        async with self._queue.next() as ticket:
            if ticket is None:
                return False
            outbox = ticket.outbox
            await self._publisher.publish_sets(outbox)
            delivered = self._now()
            await self._publisher.publish_events(outbox)
            await ticket.done()
        self._told(outbox, delivered)
        return True

    async def _restore_stream(self) -> None:
        """Publish anew what the stream should hold and does not: its storage was lost, ours was not."""
        missing = await self._publisher.absent(await self._queue.published())
        for reader in missing:
            await self._publisher.publish_sets(await self._queue.published_set(reader))
        if missing:
            log.warning("policy.stream_restored", sets=len(missing))

    def _told(self, outbox: Outbox, delivered: datetime) -> None:
        with tracing.continued({tracing.HEADER: outbox.traceparent}):
            log.info(
                "policy.published", epoch=outbox.epoch, revision=outbox.revision, sets=len(outbox.sets),
                events=len(outbox.events), latency_ms=round((delivered - outbox.at).total_seconds() * 1_000, 2),
            )  # fmt: skip
