"""Whether a database may publish: only if it is not older than what its stream holds of it.

A database that was restored from a backup counts revisions again that the fleet has seen already. Agents would refuse them
until the count has caught up, and then take them for a change: so nothing is published in an epoch in which the stream is
ahead. A new epoch, announced by the operator and signed by the root, begins a new count, and ends this.

A service compares after every connect, and asks `require` before it stores or publishes what it counts.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from warren_contracts.problems import UnavailableError
from warren_trust.signing import Version

PATIENCE = 2.0  # s that a call waits for the comparison of a service that has just started

REMEDY = "announce a new epoch: warren epoch advance"


class NotComparedError(UnavailableError):
    """The database has not been compared with the bus yet: repeat the call."""


class RestoredFromBackupError(UnavailableError):
    """The database is older than what was published: was it restored from a backup? Announce a new epoch."""

    code = "restored-from-backup"
    title = "Restored from a backup"


class RestoreGuard:
    """What the newest document of a stream means for the database that it came from."""

    def __init__(self, stream: str, patience: float = PATIENCE) -> None:
        self._stream = stream
        self._patience = patience
        self._compared = asyncio.Event()
        self._over = 0  # the epoch in which nothing may be published any more, and all before it
        self._words = ""
        self.newest: Version = (0, 0)

    def compare(self, held: Iterable[Version], own: Version) -> None:
        """Take over what the stream holds now, and how far the database had counted by then."""
        self.newest = max(held, default=(0, 0))
        ahead = self.newest > own
        self._over = self.newest[0] if ahead else 0
        self._words = (
            f"{self._stream} holds epoch {self.newest[0]}, revision {self.newest[1]}, and the database only"
            f" epoch {own[0]}, revision {own[1]}: after a restore from a backup {REMEDY}"
            if ahead
            else ""
        )
        self._compared.set()

    @property
    def behind(self) -> bool:
        """Whether there is an epoch in which nothing may be published any more."""
        return self._over > 0

    @property
    def unknown(self) -> str:
        """Why it is not known yet; empty: it is."""
        return "" if self._compared.is_set() else NotComparedError().detail

    def trouble(self, epoch: int) -> str:
        """Why nothing may be published in this epoch, as far as is known; empty: it may."""
        return self._words if epoch <= self._over else ""

    def check(self, epoch: int) -> None:
        """Raise NotComparedError or RestoredFromBackupError unless documents of this epoch may be published."""
        if not self._compared.is_set():
            raise NotComparedError
        if trouble := self.trouble(epoch):
            raise RestoredFromBackupError(trouble)

    async def require(self, epoch: int) -> None:
        """The same for a call, which waits for the first comparison for a short while."""
        await self.compared()
        self.check(epoch)

    async def compared(self) -> None:
        """Wait for the first comparison for a short while; raise NotComparedError."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._compared.wait()
                return
        raise NotComparedError
