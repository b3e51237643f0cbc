"""Reads which peers a scope has, and remembers it briefly."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime

from warren_api.errors import ScopeTooLargeError
from warren_api.ports import Bus, StoredEvent
from warren_api.scope.events import MOVES, shown_event
from warren_api.scope.view import ScopeView
from warren_contracts.commands import MAX_ENDS
from warren_contracts.names import PeerId, Scope
from warren_contracts.problems import UnavailableError
from warren_contracts.scope import ListScopedPeers, ScopedPeers

CACHE_SECONDS = 2.0  # for so long after its last tag was removed, a peer may be shown
CACHE_SCOPES = 256
RETRY_SECONDS = 1.0
ALIVE_SECONDS = 10.0  # after which a reader of whose scope there are no events is sent a keep-alive


class ScopeSource:
    """The peers of scopes."""

    def __init__(self, bus: Bus, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._views: OrderedDict[Scope, tuple[float, ScopeView]] = OrderedDict()
        self._moves = 0  # a view that was asked for before a move may be from before it
        self._lock = asyncio.Lock()

    async def view(self, scope: Scope) -> ScopeView:
        """The peers of a scope. Raises UnavailableError, or ScopeTooLargeError."""
        held = self._views.get(scope)
        if held is not None and held[0] > self._clock():
            return held[1]
        async with self._lock:
            held = self._views.get(scope)
            if held is not None and held[0] > self._clock():
                return held[1]
            moves, began = self._moves, self._clock()
            view = await self._read(scope)
            if moves == self._moves:
                self._views[scope] = (began + CACHE_SECONDS, view)
                self._views.move_to_end(scope)
                while len(self._views) > CACHE_SCOPES:
                    self._views.popitem(last=False)
            return view

    def moved(self) -> None:
        """A peer may have entered a scope or left it."""
        self._moves += 1
        self._views.clear()

    async def events(
        self, scope: Scope, events: AsyncGenerator[StoredEvent | None, None]
    ) -> AsyncGenerator[StoredEvent | None, None]:
        """The events of a scope (`ports.Bus.events`). A long time without one is a keep-alive, as without any event."""
        is_caught_up, alive_at = False, self._clock() + ALIVE_SECONDS
        view, moves = await self.view(scope), self._moves
        async with aclosing(events):
            async for event in events:
                shown = None
                if event is not None:
                    if event.headers.get("ce-type") in MOVES:
                        self.moved()
                    view, moves = await self._newest(scope, view, moves), self._moves
                    shown = shown_event(event, view)
                is_caught_up = is_caught_up or event is None
                if event is None or shown is not None or (is_caught_up and self._clock() >= alive_at):
                    alive_at = self._clock() + ALIVE_SECONDS
                    yield shown

    async def _newest(self, scope: Scope, last: ScopeView, moves: int) -> ScopeView:
        """The peers now. While the registry is unavailable no tags change: those that were read last are used, unless one has moved
        since."""
        while True:
            try:
                return await self.view(scope)
            except UnavailableError:
                if moves == self._moves:
                    return last
                await asyncio.sleep(RETRY_SECONDS)

    async def _read(self, scope: Scope) -> ScopeView:
        found: dict[PeerId, datetime] = {}
        after: str | None = ""
        while after is not None:
            page = await self._bus.call(
                "registry", "scoped_peers", ListScopedPeers(scope=scope, after=after), ScopedPeers
            )
            found |= page.peers
            if len(found) > MAX_ENDS:
                raise ScopeTooLargeError
            after = page.next_after
        return ScopeView(found)
