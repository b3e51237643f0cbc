"""Keep a cancellation that a library loses.

`asyncio.wait_for` of Python 3.11 returns the result that it has when its task is cancelled in the same moment, and nats-py suppresses
a cancellation while it waits for its flusher. A task that is cancelled once, as by a task group, would then never end.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def keep_cancellation(work: Awaitable[T]) -> T:
    """Await `work`, and raise CancelledError if the task was cancelled meanwhile and `work` ended otherwise."""
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        return await work
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
