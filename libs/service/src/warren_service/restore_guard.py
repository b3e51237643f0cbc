"""Block publishing from a database that is older than its stream: one that was restored from a backup.

Such a database counts revisions again that agents have received already. They would refuse them until the count has caught up,
and then accept them as changes. So nothing is published in an epoch in which the stream is ahead, until the operator announces a
new epoch, signed by the root, in which the count starts again.

A service compares after every connect, and calls `require` before it stores or publishes a revision.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from warren_contracts.problems import UnavailableError
from warren_trust.signing import Version

COMPARE_TIMEOUT_S = 2.0  # how long a call waits for the comparison of a service that has just started

REMEDY = "announce a new epoch: warren epoch advance"


class NotComparedError(UnavailableError):
    """The database has not been compared with the bus yet: repeat the call."""


class RestoredFromBackupError(UnavailableError):
    """The database is older than what was published: was it restored from a backup? Announce a new epoch."""

    code = "restored-from-backup"
    title = "Restored from a backup"


class RestoreGuard:
    """The comparison of a database with the newest document of its stream."""

    def __init__(self, stream: str, compare_timeout_s: float = COMPARE_TIMEOUT_S) -> None:
        self._stream = stream
        self._compare_timeout_s = compare_timeout_s
        self._compared = asyncio.Event()
        self._blocked_epoch = 0  # nothing may be published in this epoch and those before it
        self._blocked_reason = ""
        self.newest: Version = (0, 0)

    def compare(self, held: Iterable[Version], own: Version) -> None:
        """Compare the versions that the stream holds with the newest version of the database."""
        self.newest = max(held, default=(0, 0))
        ahead = self.newest > own
        self._blocked_epoch = self.newest[0] if ahead else 0
        self._blocked_reason = (
            f"{self._stream} holds epoch {self.newest[0]}, revision {self.newest[1]}, and the database only"
            f" epoch {own[0]}, revision {own[1]}: after a restore from a backup {REMEDY}"
            if ahead
            else ""
        )
        self._compared.set()

    @property
    def behind(self) -> bool:
        """Whether the database is older than its stream, so that publishing is blocked in some epoch."""
        return self._blocked_epoch > 0

    @property
    def unknown(self) -> str:
        """Why the comparison has no result yet; empty: it has one."""
        return "" if self._compared.is_set() else NotComparedError().detail

    def blocked_reason(self, epoch: int) -> str:
        """Why nothing may be published in this epoch, as far as is known; empty: publishing is allowed."""
        return self._blocked_reason if epoch <= self._blocked_epoch else ""

    def check(self, epoch: int) -> None:
        """Raise NotComparedError or RestoredFromBackupError unless documents of this epoch may be published."""
        if not self._compared.is_set():
            raise NotComparedError
        if reason := self.blocked_reason(epoch):
            raise RestoredFromBackupError(reason)

    async def require(self, epoch: int) -> None:
        """As `check`, after waiting briefly for the first comparison."""
        await self.compared()
        self.check(epoch)

    async def compared(self) -> None:
        """Wait briefly for the first comparison; raises NotComparedError."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._compare_timeout_s):
                await self._compared.wait()
                return
        raise NotComparedError
