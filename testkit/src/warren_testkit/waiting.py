"""Wait for a condition, with a limit."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

LIMIT_S = 60.0  # for what takes milliseconds on an idle machine; a busy one stops a process for seconds
POLL_S = 0.02
PATIENCE = (
    0.05  # of the time waited so far: a long wait polls rarely, and is noticed late by no more than this part of it
)


async def eventually(
    condition: Callable[[], Any],
    limit_s: float = LIMIT_S,
    what: str = "the condition",
    *,
    ignoring: tuple[type[Exception], ...] = (),
    pause_s: float = POLL_S,
) -> Any:
    """Return the first true answer of `condition`, a function or a coroutine function.

    Between two calls it sleeps `pause_s`, and longer in a long wait (see `PATIENCE`). An error of a type in `ignoring` counts as
    no answer yet.

    Raises:
        AssertionError: no true answer within the limit; it names the last answer.
    """
    last: object = None
    clock = asyncio.get_running_loop().time
    since = clock()
    try:
        async with asyncio.timeout(limit_s) as limit:
            while True:
                try:
                    last = condition()
                    if inspect.isawaitable(last):
                        last = await last
                    if last:
                        return last
                except ignoring as error:
                    last = error
                await asyncio.sleep(max(pause_s, (clock() - since) * PATIENCE))
    except TimeoutError:
        if not limit.expired():  # of the condition itself
            raise
        raise AssertionError(f"{what}: not within {limit_s:g} s; last answer: {last!r}") from None
