"""Telemetry that waits for the bus: bounded, in order, each message with one id for all its tries.

The stream drops a repeated id, so that an acknowledgement that got lost costs nothing (docs/bus.md, c12 and c17). A
heartbeat and a report are superseded by the next one. While the bus is unavailable, messages go to disk if there is one
(disk_spool.py): every change, reason and applied round, and a report every STORED_REPORT_INTERVAL; heartbeats never. Without a
disk, or if it is full, up to MAX_WAITING messages wait in memory, the oldest is dropped first.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from warren_agent.aio import checkpoint
from warren_agent.telemetry.disk_spool import DiskSpool
from warren_agent.telemetry.message import TelemetryMessage
from warren_process.backoff import Backoff

__all__ = ["Spool", "TelemetryMessage"]

log = structlog.get_logger("warren_agent")

MAX_WAITING = 2_000  # messages of some 1 kB
FIRST_RETRY = 0.5  # s
LAST_RETRY = 5.0  # s
STORED_REPORT_INTERVAL = (
    60.0  # s between two reports on disk: traffic over a long disconnection, at a sixth of the size
)
HEARTBEAT = "presence"  # a series


class Spool:
    """A queue in front of `send`, which raises NotDelivered (any of `errors`) when a message was not stored."""

    def __init__(
        self,
        send: Callable[[TelemetryMessage], Awaitable[None]],
        errors: tuple[type[Exception], ...],
        disk: DiskSpool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._errors = errors
        self._disk = disk
        self._clock = clock
        self._waiting: deque[TelemetryMessage] = deque()
        self._more = asyncio.Event()
        self._empty = asyncio.Event()
        self._on_disk = disk is not None and disk.first() is not None  # of an earlier run
        self._unavailable = self._on_disk
        self._stored_report_at = float("-inf")
        self._disk_failed = False
        self.dropped = 0
        if self._on_disk:
            self._more.set()
        else:
            self._empty.set()

    def put(self, message: TelemetryMessage) -> None:
        """Send it when its turn comes."""
        self._empty.clear()
        self._more.set()
        if (self._unavailable or self._on_disk) and message.series != HEARTBEAT and self._store(message):
            return
        self._wait(message)

    def _wait(self, message: TelemetryMessage) -> None:
        if message.series:
            self._waiting = deque(other for other in self._waiting if other.series != message.series)
        self._waiting.append(message)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1

    def store(self) -> None:
        """Move what waits in memory to the disk, but for heartbeats: the bus is unavailable, or the agent ends."""
        waiting, self._waiting = self._waiting, deque()
        for message in waiting:
            if message.series == HEARTBEAT or not self._store(message):
                self._wait(message)

    def _store(self, message: TelemetryMessage) -> bool:
        """Put a message on disk; False if it must wait in memory."""
        if self._disk is None:
            return False
        if message.series and not self._is_report_due(message):
            return True  # superseded: the bus gets a newer one when it is back
        try:
            self._disk.put(message)
        except OSError as error:
            if not self._disk_failed:
                log.error("telemetry.not_stored", error=error.strerror or str(error))
            self._disk_failed = True
            return False
        self._disk_failed = False
        self._on_disk = True
        return True

    def _is_report_due(self, message: TelemetryMessage) -> bool:
        """Whether this part belongs to a report that is stored; the parts of one are put one after the other."""
        now = self._clock()
        if message.series.endswith(" 0") and now - self._stored_report_at >= STORED_REPORT_INTERVAL:
            self._stored_report_at = now
        return now - self._stored_report_at < 1.0

    def __len__(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        """Send forever; ends by cancellation."""
        backoff, reported = Backoff(FIRST_RETRY, LAST_RETRY, random.random), False
        while True:
            message, number = self._next()
            if message is None:
                self._empty.set()
                self._more.clear()
                await self._more.wait()
                continue
            try:
                await self._send(message)
            except self._errors as error:
                if not reported:
                    log.warning("telemetry.delayed", error=str(error))
                    reported = True
                self._unavailable = True
                self.store()
                await asyncio.sleep(backoff.next_s())
                continue
            if reported:
                log.info(
                    "telemetry.resumed", waiting=len(self._waiting), dropped=self.dropped, stored=self.stored_bytes
                )
            backoff.reset()
            reported, self._unavailable = False, False
            self._sent(message, number)
            await checkpoint()

    def _next(self) -> tuple[TelemetryMessage | None, int | None]:
        """The message whose turn it is, and its number on disk: heartbeats first, then what is older."""
        heartbeat = next((it for it in self._waiting if it.series == HEARTBEAT), None)
        if heartbeat is not None and self._on_disk:
            return heartbeat, None
        if self._on_disk and self._disk is not None:
            try:
                stored = self._disk.first()
            except OSError as error:
                log.error("telemetry.not_read", error=error.strerror or str(error))
                stored = None
            if stored is not None:
                return stored.message, stored.number
            self._on_disk = False
        return (self._waiting[0] if self._waiting else None), None

    def _sent(self, message: TelemetryMessage, number: int | None) -> None:
        if number is not None and self._disk is not None:
            try:
                self._disk.delivered(number)
            except OSError as error:  # it is sent again after a restart, with the same id
                log.warning("telemetry.position_not_stored", error=error.strerror or str(error))
        elif message in self._waiting:  # else superseded while it was sent
            self._waiting.remove(message)

    @property
    def stored_bytes(self) -> int:
        """What waits on disk, in bytes; the segment that is read now counts as a whole."""
        return 0 if self._disk is None else self._disk.size_bytes

    async def flush(self, timeout: float) -> bool:
        """Wait until everything was sent; False when that took too long, and then what waits is on disk."""
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            self.store()
            return False
        return True
