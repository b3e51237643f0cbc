"""Tasks in the background and their end."""

import asyncio

import pytest

from warren_process import background
from warren_process.background import BackgroundTasks, end_tasks


async def test_spawned_work_runs_and_is_not_held_after_its_end() -> None:
    tasks, done = BackgroundTasks(), asyncio.Event()

    async def work() -> None:
        done.set()

    tasks.spawn(work(), "work")
    assert len(tasks._tasks) == 1
    await done.wait()
    await asyncio.sleep(0)
    assert not tasks._tasks


async def test_closing_cancels_what_runs_and_waits_for_its_end() -> None:
    tasks, begun, ended = BackgroundTasks(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    tasks.spawn(work())
    await begun.wait()
    await tasks.close()
    assert ended.is_set()


async def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "CANCEL_AGAIN_S", 0.01)
    begun, lost = asyncio.Event(), 0

    async def work() -> None:
        nonlocal lost
        begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(work())
    await begun.wait()
    await end_tasks(task)
    assert task.cancelled()
    assert lost == 3


async def test_the_error_of_a_task_that_is_ended_is_not_raised() -> None:
    async def fail() -> None:
        raise ValueError("of before")

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    await end_tasks(task)
    assert isinstance(task.exception(), ValueError)
