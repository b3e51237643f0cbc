"""Run until a signal asks to stop. Without the extra [local]: containers use it, too."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_signalled(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` and cancel it at the first SIGINT, SIGTERM or SIGHUP; later ones are ignored while it cleans up.

    Returns its exit code, or 0 after a signal: a stop that was asked for is a success.
    """
    return asyncio.run(_guarded(main))


async def _guarded(main: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(main)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        if not signalled:
            signalled = True
            task.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if signalled:
            return 0
        raise
