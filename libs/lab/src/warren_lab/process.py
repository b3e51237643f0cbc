"""Child processes that end with their parent, and waiting without sleeping. Standard library only."""

import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from warren_lab.errors import TimedOutError

POLL_SECONDS = 0.01
"""Pause between two looks at something that offers no event (a socket of a daemon that starts)."""


def bound_to_parent(argv: Sequence[str], on_parent_death: signal.Signals = signal.SIGTERM) -> list[str]:
    """`argv` behind setpriv, so that the kernel signals the child when the thread that started it ends.

    Start such a child from a thread that lives as long as the child should (prctl(2), PR_SET_PDEATHSIG). Where there is
    no setpriv (not Linux) the child is started plainly.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return list(argv)
    return [setpriv, "--pdeathsig", on_parent_death.name.removeprefix("SIG"), "--", *argv]


def stop_process(
    process: subprocess.Popen[bytes], first: signal.Signals = signal.SIGTERM, limit_seconds: float = 5.0
) -> int:
    """End a child by its id: `first`, and SIGKILL after the limit. Returns its exit code; a dead child is fine."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(first)
        try:
            return process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def wait_until(ready: Callable[[], bool], what: str, limit_seconds: float, process_id: int | None = None) -> None:
    """Look at `ready` until it is true. With a process id, the wait also ends as soon as that process does.

    Raises:
        TimedOutError: the limit passed, or the process ended, before `ready` was true.
    """
    deadline = time.monotonic() + limit_seconds
    descriptor = os.pidfd_open(process_id) if process_id is not None else None
    watched = [] if descriptor is None else [descriptor]
    try:
        while not ready():
            if time.monotonic() > deadline:
                raise TimedOutError(f"{what}: not within {limit_seconds:g} s")
            if select.select(watched, [], [], POLL_SECONDS)[0] and not ready():
                raise TimedOutError(f"{what}: the process ended first")
    finally:
        if descriptor is not None:
            os.close(descriptor)


async def eventually(
    ready: Callable[[], Awaitable[bool]], what: str, limit_seconds: float, pause_seconds: float = POLL_SECONDS
) -> None:
    """`wait_until` for coroutines.

    Raises:
        TimedOutError: the limit passed before `ready` was true.
    """
    deadline = time.monotonic() + limit_seconds
    while not await ready():
        if time.monotonic() > deadline:
            raise TimedOutError(f"{what}: not within {limit_seconds:g} s")
        await asyncio.sleep(pause_seconds)
