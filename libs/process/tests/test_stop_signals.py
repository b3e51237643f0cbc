"""Running until a signal asks to stop."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from warren_process.stop_signals import until_signalled

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Handlers of this process as they were, after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_work_that_ends_by_itself_gives_its_result() -> None:
    async def work() -> int:
        return 3

    assert await until_signalled(work(), (signal.SIGUSR1,)) == 3


async def test_a_signal_cancels_the_work_and_a_second_one_does_not_disturb_its_clean_up() -> None:
    cleaned = False

    async def work() -> int:
        nonlocal cleaned
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), signal.SIGUSR2)
            for _ in range(10):
                await asyncio.sleep(0)
            cleaned = True
        return 3

    assert await until_signalled(work(), (signal.SIGUSR1, signal.SIGUSR2)) is None
    assert cleaned


async def test_a_defect_of_the_work_is_raised() -> None:
    async def work() -> None:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        await until_signalled(work(), (signal.SIGUSR1,))


async def test_a_cancellation_by_others_is_passed_on_to_the_work_and_raised() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(until_signalled(work(), (signal.SIGUSR1,)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
