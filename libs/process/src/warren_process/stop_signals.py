"""Run until a signal asks to stop: the only implementation."""

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def until_signalled(work: Coroutine[Any, Any, T], signals: Sequence[signal.Signals] = STOP_SIGNALS) -> T | None:
    """Run `work`, and cancel it at the first of these signals; later ones are ignored while it cleans up.

    Returns its result, or None after a signal: a stop that was asked for is no failure.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        if not signalled:
            signalled = True
            task.cancel()

    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if signalled:
            return None
        raise
