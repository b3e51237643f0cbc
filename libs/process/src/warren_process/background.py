"""Tasks that their beginner does not wait for, and the end of tasks: the only implementation."""

import asyncio
from collections.abc import Coroutine
from typing import Any

CANCEL_AGAIN_S = 1.0


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until each has ended: a cancellation may get lost in a request (`asyncio.wait_for` of Python 3.11).

    Their errors are not raised.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks it as seen: the loop would log it


class BackgroundTasks:
    """Holds tasks until they have ended: the event loop itself has only weak references to them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str | None = None) -> None:
        """Run `work` until it ends, or is cancelled."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Begin to cancel everything that runs."""
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Cancel everything that runs, and wait for its end."""
        await end_tasks(*self._tasks)
