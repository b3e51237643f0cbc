"""The loop of every background worker.

It performs a step, then waits to be woken or for the interval; after a failure it retries with growing pauses. Only an unavailable
dependency is retried: any other error ends the process, and its supervisor restarts it. A reason is logged once, not at every retry.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from nats.errors import Error as NatsError

from warren_bus.cancellation import keep_cancellation
from warren_bus.errors import BusError, NotConnectedError
from warren_contracts.problems import UnavailableError
from warren_process.backoff import Backoff
from warren_trust.errors import InvalidKeyError, TrustError

FIRST_PAUSE = 0.1  # s
LONGEST_PAUSE = 5.0  # s: a returned dependency is detected within this
_UNAVAILABLE = (UnavailableError, BusError, TrustError, NatsError, OSError)  # TimeoutError is an OSError

log = structlog.get_logger(__name__)


def is_retried(error: BaseException) -> bool:
    """Whether a later step may succeed.

    A refused document is replaced by its writer. A key file that cannot be used stays so, and the connection that needs it has
    ended for good: the process ends, and its next start names the file.
    """
    return isinstance(error, _UNAVAILABLE) and not isinstance(error, InvalidKeyError)


class Worker:
    """Runs `step` forever. `failing` is the reason of the last failure, empty after a success."""

    def __init__(self, name: str, step: Callable[[], Awaitable[None]], interval: float) -> None:
        self._name = name
        self._step = step
        self._interval = interval
        self._wake = asyncio.Event()
        self.failing = "not done yet"

    def wake(self) -> None:
        """Perform the step soon, also when one is in progress: it may have read its input before the change."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. Raises errors that are not retried."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)
        while True:
            self._wake.clear()
            try:
                await keep_cancellation(self._step())
            except ExceptionGroup as group:
                if group.split(is_retried)[1] is not None:
                    raise
                reason: BaseException = group.exceptions[0]
            except Exception as error:
                if not is_retried(error):
                    raise
                reason = error
            else:
                self.failing = ""
                backoff.reset()
                await self._wait(self._interval)
                continue
            pause_s = backoff.next_s()
            self._failed(reason, pause_s)
            await self._wait(pause_s)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _failed(self, error: BaseException, pause_s: float) -> None:
        reason = str(error) or type(error).__name__
        if reason != self.failing:
            emit = log.info if isinstance(error, NotConnectedError) else log.warning  # the connection logs that itself
            emit("worker.retry", worker=self._name, error=reason, retry_s=round(pause_s, 2))
        self.failing = reason
