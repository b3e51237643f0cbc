"""Reads tunnels again after something happened to them: each once for many events, and later when asked to."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from warren_agent.errors import DriverError

log = structlog.get_logger()


RETRY = 1.0  # s


class Refresher:
    """Collects names and hands them on in one call; the names that come meanwhile make the next call."""

    def __init__(self, refresh: Callable[[Iterable[str]], Awaitable[None]]) -> None:
        self._refresh = refresh
        self._names: set[str] = set()
        self._wake = asyncio.Event()
        self._later: dict[str, asyncio.TimerHandle] = {}

    def mark(self, name: str, after: float = 0.0) -> None:
        """Look at a tunnel soon, or `after` seconds from now at the latest."""
        if after <= 0:
            self._names.add(name)
            self._wake.set()
        elif name not in self._later:
            self._later[name] = asyncio.get_running_loop().call_later(after, self._due, name)

    def _due(self, name: str) -> None:
        del self._later[name]
        self.mark(name)

    async def run(self) -> None:
        """Refresh what is marked, forever; ends by cancellation."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                names, self._names = self._names, set()
                try:
                    await self._refresh(names)
                except DriverError as error:
                    # Should charon be unavailable, the monitor sees it too and has everything read again when it is back.
                    log.debug("tunnel.read_failed", error=str(error))
                    for name in names:
                        self.mark(name, after=RETRY)
        finally:
            for timer in self._later.values():
                timer.cancel()
