"""The worker's loop: which errors are retried, and which end the process."""

import asyncio

import pytest
from nats.errors import Error as NatsError

from warren_bus.errors import NotConnectedError
from warren_contracts.problems import UnavailableError
from warren_service import worker
from warren_service.worker import Worker
from warren_trust.errors import InvalidKeyError, InvalidSignatureError, MalformedDocumentError

RETRIED = [
    UnavailableError("x"), NotConnectedError(), NatsError("x"), ConnectionResetError(), TimeoutError(), InvalidSignatureError(),
    MalformedDocumentError(), ExceptionGroup("several", [InvalidSignatureError(), OSError()]),
]  # fmt: skip
FATAL = [
    InvalidKeyError(), ValueError("a defect"), ExceptionGroup("several", [InvalidSignatureError(), InvalidKeyError()]),
]  # fmt: skip


def failing_once(error: Exception) -> tuple[Worker, asyncio.Event]:
    done = asyncio.Event()
    errors = [error]

    async def step() -> None:
        if errors:
            raise errors.pop()
        done.set()

    return Worker("test", step, interval=60.0), done


@pytest.mark.parametrize("error", RETRIED, ids=lambda error: type(error).__name__)
async def test_an_unavailable_dependency_and_a_refused_document_are_retried(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "FIRST_PAUSE", 0.001)
    running, done = failing_once(error)
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(done.wait(), 60)
    await asyncio.sleep(0)
    assert running.failing == ""
    task.cancel()


@pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
async def test_an_unusable_key_and_a_defect_end_the_worker(error: Exception) -> None:
    running, _ = failing_once(error)
    with pytest.raises(type(error)):
        await asyncio.wait_for(running.run(), 60)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancellation_that_a_step_swallows_ends_the_worker(fails: bool) -> None:
    """As asyncio.wait_for of Python 3.11 does if a reply arrives in the same moment."""
    begun = asyncio.Event()

    async def step() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if fails:
                raise TimeoutError from None

    task = asyncio.create_task(Worker("test", step, interval=60.0).run())
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
