"""The background tasks of a driver, and the events that they make."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from warren_agent.drivers.port import DriverEvent

EventQueue = asyncio.Queue[DriverEvent | BaseException]


class DriverTasks:
    """A defect that ends a task is raised by `read_events`: without it the driver would stay silent."""

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until it ends or `stop`."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def stop(self) -> None:
        """Cancel the tasks and wait for their end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def read_events(self) -> AsyncIterator[DriverEvent]:
        """The events in their order, forever. One reader.

        Raises:
            BaseException: the defect that ended a task.
        """
        while True:
            event = await self._queue.get()
            if isinstance(event, BaseException):
                raise event
            yield event

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._queue.put_nowait(error)
