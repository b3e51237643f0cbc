"""Telemetry that waits for the bus: bounded, in order, each message with one id for all its tries.

The stream drops a repeated id, so that an acknowledgement that got lost costs nothing (docs/bus.md, c12 and c17). A
heartbeat and a report are superseded by the next one: while the bus is unavailable only the newest of them is kept. A message
once (a change, a reason, an applied round) is kept up to MAX_WAITING messages, the oldest is dropped first.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from warren_agent.aio import checkpoint
from warren_contracts.backoff import Backoff

log = structlog.get_logger("warren_agent")

MAX_WAITING = 2_000  # messages of some 1 kB
FIRST_RETRY = 0.5  # s
LAST_RETRY = 5.0  # s


@dataclass(frozen=True)
class TelemetryMessage:
    """One message. Letters of one `series` supersede each other; an empty series stands alone."""

    subject: str
    payload: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    series: str = ""


class Spool:
    """A queue in front of `send`, which raises NotDelivered (any of `errors`) when a message was not stored."""

    def __init__(
        self, send: Callable[[TelemetryMessage], Awaitable[None]], errors: tuple[type[Exception], ...]
    ) -> None:
        self._send = send
        self._errors = errors
        self._waiting: deque[TelemetryMessage] = deque()
        self._more = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.dropped = 0

    def put(self, telemetry_message: TelemetryMessage) -> None:
        """Send it when its turn comes."""
        if telemetry_message.series:
            self._waiting = deque(other for other in self._waiting if other.series != telemetry_message.series)
        self._waiting.append(telemetry_message)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._empty.clear()
        self._more.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        """Send forever; ends by cancellation."""
        backoff, reported = Backoff(FIRST_RETRY, LAST_RETRY, random.random), False
        while True:
            if not self._waiting:
                self._empty.set()
                self._more.clear()
                await self._more.wait()
            telemetry_message = self._waiting[0]
            try:
                await self._send(telemetry_message)
            except self._errors as error:
                if not reported:
                    log.warning("telemetry.delayed", error=str(error))
                    reported = True
                await asyncio.sleep(backoff.next_s())
                continue
            if reported:
                log.info("telemetry.resumed", waiting=len(self._waiting), dropped=self.dropped)
            backoff.reset()
            reported = False
            await checkpoint()
            if self._waiting and self._waiting[0] is telemetry_message:
                self._waiting.popleft()

    async def flush(self, timeout: float) -> bool:
        """Wait until everything was sent; False when that took too long."""
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
