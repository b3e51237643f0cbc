"""An asyncio event loop that lives in a namespace: every socket and TUN device that its coroutines open belongs there."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from warren_lab.namespace import Namespace, in_netns

T = TypeVar("T")

RUN_LIMIT_SECONDS = 90.0
"""For one `run`: a handshake takes milliseconds; the limit only keeps a stuck one from blocking a test forever."""


class NamespaceLoop:
    """Runs coroutines inside a namespace, from any thread. Use as a context manager, or call `start` and `close`."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the loop's thread inside the namespace."""
        started = threading.Event()
        self._loop.call_soon(started.set)
        self._thread = threading.Thread(
            target=in_netns, args=(self._namespace.path, self._loop.run_forever), name=f"loop-{self._namespace.name}"
        )
        self._thread.start()
        started.wait(RUN_LIMIT_SECONDS)

    def run(self, coroutine: Coroutine[Any, Any, T], limit_seconds: float = RUN_LIMIT_SECONDS) -> T:
        """Run a coroutine to its end and return what it returns.

        Raises:
            TimeoutError: it took longer than the limit; it is cancelled.
        """

        async def limited() -> T:
            async with asyncio.timeout(limit_seconds):
                return await coroutine

        return asyncio.run_coroutine_threadsafe(limited(), self._loop).result()

    def close(self) -> None:
        """Stop the loop; what still runs in it is cancelled first. Safe to call twice."""
        if self._thread is not None:
            self.run(_cancel_others())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._thread = None
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
