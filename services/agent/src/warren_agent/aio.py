"""What asyncio of Python 3.11 needs around it."""

import asyncio


async def checkpoint() -> None:
    """Raise CancelledError if this task was cancelled, however the last await ended.

    `asyncio.wait_for`, by which nats-py waits for answers, returns the answer and forgets the cancellation when both come
    at once (python/cpython#86296, mended in 3.12). A loop around such a call would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
