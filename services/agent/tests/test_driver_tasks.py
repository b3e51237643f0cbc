"""The background tasks of a driver."""

import asyncio

import pytest

from warren_agent.drivers.port import DaemonUp
from warren_agent.drivers.tasks import DriverTasks, EventQueue


async def test_a_defect_is_raised_after_the_events_before_it() -> None:
    queue: EventQueue = asyncio.Queue()
    tasks = DriverTasks(queue)

    async def work() -> None:
        queue.put_nowait(DaemonUp("1"))
        raise ValueError("a defect")

    tasks.start("work", work())
    events = tasks.read_events()
    assert await anext(events) == DaemonUp("1")
    with pytest.raises(ValueError, match="a defect"):
        await anext(events)


async def test_tasks_that_are_stopped_have_ended_and_are_no_defect() -> None:
    queue: EventQueue = asyncio.Queue()
    tasks = DriverTasks(queue)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.start("work", work())
    await begun.wait()
    await tasks.stop()
    assert ended.is_set()
    assert queue.empty()
