"""Keeps the guard's table in the kernel: what another program removes or changes is restored.

nft lists a table in words of its own, so how the kernel lists the one that was installed is noted when its event comes.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import structlog

from warren_contracts.guard import EventKind, GuardEvent
from warren_guard.domain.nft_events import TableWatch
from warren_guard.errors import GuardError

log = structlog.get_logger("warren_guard")

SETTLING = 5  # attempts to see the table as it was installed, on a host whose other programs change rules all the time


class Firewall(Protocol):
    """The kernel's tables."""

    async def install(self, text: str) -> int:
        """Run the transaction that replaces our table; returns the number of that transaction. NftError if it is refused."""

    async def list_table(self) -> tuple[int, str | None]:
        """Our table without counters, None if there is none, and the number of the last transaction before it was listed."""


class TableKeeper:
    """One table. The caller holds a lock around each call but `feed`; `publish` gets what another program has done."""

    def __init__(self, firewall: Firewall, publish: Callable[[GuardEvent], None]) -> None:
        self._firewall, self._publish = firewall, publish
        self._watch = TableWatch()
        self.text = ""  # the table in force, as it was built; empty: none was built by this process
        self._generation = 0  # the number of its transaction
        self._listed: str | None = None  # the same, as the kernel lists it; None until it was listed
        self._settling = 0
        self.restored_at: datetime | None = None
        self.is_missing = False  # the table in the kernel is another, and nft refused ours

    async def put(self, text: str) -> None:
        """Make this the table in the kernel. How the kernel lists it is looked at when its event comes. GuardError if refused."""
        self._generation = await self._firewall.install(text)
        self.text, self._listed, self._settling = text, None, 0
        self.is_missing = False

    def feed(self, datagram: bytes | None) -> bool | None:
        """Read a message of the kernel about nftables: whether our table exists, if it may have changed; else None.

        None as a message: some were lost, so that anything may have changed.
        """
        return self._watch.feed(datagram) if datagram is not None else True

    def others_changed(self) -> bool:
        """Whether another program has changed rules since the last call."""
        return self._watch.take_others()

    async def check(self, exists: bool) -> None:
        """Restore the table if another program changed it."""
        if not self.text:
            return
        # Each ms counts if it is gone: nothing is listed before it is restored.
        generation, listed = await self._firewall.list_table() if exists else (0, None)
        if listed is None:
            await self._restore("removed")
        elif self._listed is None:
            await self._settle(generation, listed)
        elif listed != self._listed:
            await self._restore("changed")

    async def _settle(self, generation: int, listed: str) -> None:
        """Note how the kernel lists the table, unless another program has had a transaction since: then install it again."""
        if generation == self._generation or self._settling >= SETTLING:
            self._listed, self.is_missing = listed, False
            return
        self._settling += 1
        try:
            self._generation = await self._firewall.install(self.text)
        except GuardError as error:
            self._note_refused("changed", error)

    async def _restore(self, what: str) -> None:
        try:
            await self.put(self.text)
        except GuardError as error:
            self._note_refused(what, error)
            return
        self.restored_at = datetime.now(UTC)
        log.warning("guard.table_restored", cause=f"another program had {what} it")
        detail = f"another program had {what} it"
        self._publish(GuardEvent(event=EventKind.TABLE_RESTORED, at=self.restored_at, detail=detail))

    def _note_refused(self, what: str, error: GuardError) -> None:
        log.error("guard.table_not_restored", error=str(error))
        self.is_missing = True
        self._publish(GuardEvent(event=EventKind.TABLE_RESTORED, failed=True, detail=f"{what}: {error}"[:1_000]))
