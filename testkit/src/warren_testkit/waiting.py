"""Wait for a condition, with a limit."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

POLL_S = 0.02


async def eventually(
    condition: Callable[[], Any],
    limit_s: float = 10.0,
    what: str = "the condition",
    *,
    ignoring: tuple[type[Exception], ...] = (),
    pause_s: float = POLL_S,
) -> Any:
    """Return the first true answer of `condition`, a function or a coroutine function.

    An error of a type in `ignoring` counts as no answer yet.

    Raises:
        AssertionError: no true answer within the limit; it names the last answer.
    """
    last: object = None
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
                await asyncio.sleep(pause_s)
    except TimeoutError:
        if not limit.expired():  # of the condition itself
            raise
        raise AssertionError(f"{what}: not within {limit_s:g} s; last answer: {last!r}") from None
