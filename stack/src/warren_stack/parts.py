"""A part of the stack as values: what to start, how to see that it is ready, how to stop it."""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from warren_lab.process import bound_to_parent
from warren_process.backoff import pause_s
from warren_stack.run_as import ProcessUser, run_as

Ready = Callable[[], Awaitable[bool]]

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
STABLE_SECONDS = 30.0
"""A part that ran this long starts over with the first pause."""


@dataclass(frozen=True)
class RecoverableFault:
    """A fault that only a restart clears, in a part that keeps running.

    `words` (lower case) occur in a line that the part writes then; `remark` is the message to the operator. The part is
    restarted once `is_over` returns true: the cause is gone. It may read a disk, so it is called in a thread.
    """

    words: bytes
    remark: str
    is_over: Callable[[], bool]


async def always_ready() -> bool:
    """For parts whose readiness shows elsewhere (a service's in /api/health)."""
    return True


@dataclass(frozen=True)
class ManagedProcess:
    """One process under the supervisor.

    `stop_signal` asks it to end; after `stop_limit_seconds` its process group is killed. Higher tiers are stopped first,
    the parts of one tier together. With `user`, it runs as that
    user and sees `needed` folders also where their parents are closed to it (only root can do that).
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: Ready = always_ready
    stop_signal: signal.Signals = signal.SIGTERM
    stop_limit_seconds: float = 5.0
    tier: int = 0
    fault: RecoverableFault | None = None
    noise: tuple[bytes, ...] = ()  # words, in lower case, of lines that unauthenticated peers can cause
    user: ProcessUser | None = None
    needed: tuple[Path, ...] = ()

    def command(self) -> list[str]:
        """The argv to start. The parent-death signal comes innermost: a change of user would clear it (prctl(2))."""
        bound = bound_to_parent(self.argv, self.stop_signal)
        return bound if self.user is None else run_as(self.user, bound, self.needed)


def restart_pause(failures: int, jitter: Callable[[], float] = random.random) -> float:
    """Seconds before the next start after so many early ends in a row: doubling, half of it random.

    The randomness keeps parts that fail together from starting together.
    """
    return pause_s(failures, jitter(), first_s=FIRST_PAUSE_SECONDS, limit_s=LONGEST_PAUSE_SECONDS)


def tcp_ready(host: str, port: int) -> Ready:
    """Whether something accepts connections there."""

    async def ready() -> bool:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), 1.0)
        except (OSError, TimeoutError):
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    return ready
