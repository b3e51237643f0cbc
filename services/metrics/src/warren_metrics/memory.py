"""Write-behind: changed state is written to PostgreSQL soon, in one transaction, however often it changed meanwhile.

A tunnel of which only counters changed is written within COUNTERS_INTERVAL: all of a large fleet change with every report, and the
next report after a restart has newer ones. While PostgreSQL is unavailable the changes wait in memory (at most one per peer and
tunnel) and the service continues; after a crash the next reports of the agents contain the lost state within REPORT_INTERVAL.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice

import structlog

from warren_bus.cancellation import keep_cancellation
from warren_contracts.problems import UnavailableError
from warren_metrics.domain.changes import Changes, TunnelKey
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.ports import FleetStore, RowChanges

FLUSH_INTERVAL = 1.0  # s: the largest age of the stored state
COUNTERS_INTERVAL = 60.0  # s: the largest age of stored counters, about
COUNTERS_AT_ONCE = (
    500  # rows of counters in one write, at least: those of a small fleet are written every FLUSH_INTERVAL
)
RETRY_INTERVAL = 1.0  # s between attempts while PostgreSQL is unavailable
FORGET_INTERVAL = timedelta(minutes=10)

log = structlog.get_logger(__name__)


class StateWriter:
    """Writes the changes of the fleet to the store. Run `run()` as a task."""

    def __init__(self, fleet: FleetTelemetry, store: FleetStore, *, now: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._store = store
        self._now = now
        self._peers: set[str] = set()
        self._tunnels: set[TunnelKey] = set()
        self._counters: dict[TunnelKey, None] = {}  # in the order in which they changed first
        self._work = asyncio.Event()
        self._loaded = asyncio.Event()
        self._unavailable = False
        self._forgotten_at = now()

    @property
    def loaded(self) -> bool:
        """Whether the stored state was restored."""
        return self._loaded.is_set()

    async def wait_loaded(self) -> None:
        """Wait until the stored state was restored."""
        await self._loaded.wait()

    def changed(self, changes: Changes) -> None:
        """Mark these rows to be written."""
        if changes.peers or changes.tunnels or changes.counters:
            self._peers |= changes.peers
            self._tunnels |= changes.tunnels
            self._counters.update(dict.fromkeys(changes.counters))
            self._work.set()

    async def load(self) -> bool:
        """Restore the stored state, once; returns False while PostgreSQL is unavailable."""
        if self.loaded:
            return True
        try:
            known = await self._store.load()
        except UnavailableError as error:
            self._report(error)
            return False
        self._fleet.restore(known.peers, known.tunnels)
        self._loaded.set()
        log.info("metrics.restored", peers=len(known.peers), tunnels=len(known.tunnels))
        return True

    async def run(self) -> None:
        """Load, then write behind forever; cancel to stop, and `flush()` once more after that."""
        while True:
            if not await keep_cancellation(self.load()):  # asyncpg may lose it
                await asyncio.sleep(RETRY_INTERVAL)
                continue
            await self._work.wait()
            self._work.clear()
            self._forget()
            due = max(COUNTERS_AT_ONCE, round(len(self._counters) * FLUSH_INTERVAL / COUNTERS_INTERVAL))
            if await keep_cancellation(self._write(due)):
                if self._counters:
                    self._work.set()
                await asyncio.sleep(FLUSH_INTERVAL)
            else:
                self._work.set()
                await asyncio.sleep(RETRY_INTERVAL)

    async def flush(self) -> bool:
        """Write all marked rows; returns False while PostgreSQL is unavailable."""
        return await self._write(len(self._counters))

    async def _write(self, counters: int) -> bool:
        """Write the marked rows, and so many of those with new counters."""
        peers, self._peers = self._peers, set()
        tunnels, self._tunnels = self._tunnels, set()
        due = list(islice(self._counters, counters))
        for key in due:
            del self._counters[key]
        tunnels.update(due)
        rows = RowChanges(
            {peer: self._fleet.peers.get(peer) for peer in peers}, {key: self._fleet.tunnel(key) for key in tunnels}
        )
        try:
            if rows:
                await self._store.save(rows)
        except UnavailableError as error:
            self._peers |= peers
            self._tunnels |= tunnels
            self._report(error)
            return False
        self._unavailable = False
        return True

    def _forget(self) -> None:
        now = self._now()
        if now - self._forgotten_at >= FORGET_INTERVAL:
            self._forgotten_at = now
            self.changed(self._fleet.forget(now))

    def _report(self, error: Exception) -> None:
        if not self._unavailable:
            log.warning("metrics.not_saved", error=str(error))
        self._unavailable = True
