"""Writing behind: what changed in memory goes to PostgreSQL soon, in one transaction, however often it changed meanwhile.

While PostgreSQL is unavailable the changes wait in memory (there are never more of them than peers and tunnels) and the service
goes on; what a crash loses then, the next reports of the agents tell again within REPORT_INTERVAL.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from warren_contracts.problems import UnavailableError
from warren_metrics.domain.fleet import Changes, Fleet, TunnelKey
from warren_metrics.ports import FleetStore, Rows

FLUSH_INTERVAL = 1.0  # s: how old a restart's view may be
RETRY_INTERVAL = 1.0  # s between tries while PostgreSQL is unavailable
FORGET_INTERVAL = timedelta(minutes=10)

log = structlog.get_logger(__name__)


class StateWriter:
    """Keeps the store in step with the fleet. Run `run()` as a task."""

    def __init__(self, fleet: Fleet, store: FleetStore, *, now: Callable[[], datetime]) -> None:
        self._fleet = fleet
        self._store = store
        self._now = now
        self._peers: set[str] = set()
        self._tunnels: set[TunnelKey] = set()
        self._work = asyncio.Event()
        self._loaded = asyncio.Event()
        self._away = False
        self._forgotten_at = now()

    @property
    def loaded(self) -> bool:
        """Whether the last known state has been taken over."""
        return self._loaded.is_set()

    async def wait_loaded(self) -> None:
        """Return when it has been."""
        await self._loaded.wait()

    def changed(self, changes: Changes) -> None:
        """Write these rows soon."""
        if changes.peers or changes.tunnels:
            self._peers |= changes.peers
            self._tunnels |= changes.tunnels
            self._work.set()

    async def load(self) -> bool:
        """Take over the last known state, once; False while PostgreSQL is unavailable."""
        if self.loaded:
            return True
        try:
            known = await self._store.load()
        except UnavailableError as error:
            self._note(error)
            return False
        self._fleet.restore(known.peers, known.tunnels)
        self._loaded.set()
        log.info("metrics.restored", peers=len(known.peers), tunnels=len(known.tunnels))
        return True

    async def run(self) -> None:
        """Load, then write behind forever; cancel to stop, and `flush()` once more after that."""
        while True:
            if not await self.load():
                await asyncio.sleep(RETRY_INTERVAL)
                continue
            await self._work.wait()
            self._work.clear()
            self._forget()
            if await self.flush():
                await asyncio.sleep(FLUSH_INTERVAL)
            else:
                self._work.set()
                await asyncio.sleep(RETRY_INTERVAL)

    async def flush(self) -> bool:
        """Write what waits; False while PostgreSQL is unavailable."""
        peers, self._peers = self._peers, set()
        tunnels, self._tunnels = self._tunnels, set()
        rows = Rows(
            {peer: self._fleet.peers.get(peer) for peer in peers}, {key: self._fleet.tunnel(key) for key in tunnels}
        )
        try:
            if rows:
                await self._store.save(rows)
        except UnavailableError as error:
            self._peers |= peers
            self._tunnels |= tunnels
            self._note(error)
            return False
        self._away = False
        return True

    def _forget(self) -> None:
        now = self._now()
        if now - self._forgotten_at >= FORGET_INTERVAL:
            self._forgotten_at = now
            self.changed(self._fleet.forget(now))

    def _note(self, error: Exception) -> None:
        if not self._away:
            log.warning("metrics.not_saved", reason=str(error))
        self._away = True
