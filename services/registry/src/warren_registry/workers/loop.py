"""One loop for every worker: do a step, wait to be woken or for the interval, and after a failure try again with growing
pauses. Only the absence of a dependency is retried; a bug ends the process, and its supervisor restarts it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from nats.errors import Error as NatsError

from warren_bus.errors import BusError, NotConnectedError
from warren_contracts.problems import UnavailableError

FIRST_PAUSE = 0.1  # s
LONGEST_PAUSE = 5.0  # s: how late at most a returned dependency is noticed
RETRIED: tuple[type[Exception], ...] = (UnavailableError, BusError, NatsError, OSError)  # TimeoutError is an OSError

log = structlog.get_logger(__name__)


class Worker:
    """Runs `step` for ever. `failing` is the reason of the last failure, empty after a success."""

    def __init__(self, name: str, step: Callable[[], Awaitable[None]], interval: float) -> None:
        self._name = name
        self._step = step
        self._interval = interval
        self._wake = asyncio.Event()
        self.failing = "not done yet"

    def wake(self) -> None:
        """Do the step soon, also when one is under way now (it may have looked too early)."""
        self._wake.set()

    async def run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            try:
                await self._step()
            except ExceptionGroup as group:
                _, others = group.split(RETRIED)
                if others is not None:
                    raise
                self._failed(group.exceptions[0], pause)
            except RETRIED as error:
                self._failed(error, pause)
            else:
                self.failing = ""
                pause = FIRST_PAUSE
                await self._rest(self._interval)
                continue
            await self._rest(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _failed(self, error: BaseException, pause: float) -> None:
        reason = str(error) or type(error).__name__
        if reason != self.failing:
            tell = log.info if isinstance(error, NotConnectedError) else log.warning  # the connection logs that itself
            tell("worker.waits", worker=self._name, reason=reason, retry_s=pause)
        self.failing = reason
