"""Sources of time and randomness of the agent; tests pass their own."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from warren_contracts.telemetry import REPORT_INTERVAL


@dataclass(frozen=True)
class Clocks:
    """Monotonic time in seconds, wall-clock time, jitter from 0 to 1, and the seconds between two reports."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random
    report_interval: float = REPORT_INTERVAL
