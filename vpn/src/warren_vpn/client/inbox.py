"""What happens to the client, in order: events, and the timers and background tasks that make some."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from warren_process.background import BackgroundTasks
from warren_vpn.client.states import ClientTrigger


class Inbox:
    """Of one run. Made within the event loop; `close` it at the end."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[tuple[ClientTrigger, str]] = asyncio.Queue()
        self._tasks = BackgroundTasks()
        self._timers: list[asyncio.TimerHandle] = []

    def post(self, event: ClientTrigger, detail: str = "") -> None:
        """Add an event; `detail` says more in words."""
        self._events.put_nowait((event, detail))

    async def next(self) -> tuple[ClientTrigger, str]:
        """Wait for the next event and its detail."""
        return await self._events.get()

    def post_later(self, seconds: float, event: ClientTrigger) -> None:
        """Add an event after so many seconds, unless `cancel_timers` comes first."""
        self._timers.append(asyncio.get_running_loop().call_later(seconds, self.post, event))

    def cancel_timers(self) -> None:
        """Forget the events that are to come later."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background until it ends or the inbox is closed."""
        self._tasks.spawn(work)

    async def close(self) -> None:
        """Cancel timers and background tasks, and wait for these."""
        self.cancel_timers()
        await self._tasks.close()
