"""What a commit leaves behind: events to publish, connections to end.

Both are rows of the change's own transaction, so a crash between the commit and the deed forgets nothing; both may be done
twice without harm (an event keeps its id; a KICK of a peer that has reconnected makes it reconnect once more).
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog
from nats.aio.client import Client

from warren_registry.outbox import SOURCE
from warren_registry.ports import Database
from warren_service.outbox import OutboxPublisher

PAGE = 200
KICKS_AT_ONCE = 32  # questions to all servers under way

log = structlog.get_logger(__name__)


class EventRelay:
    """Publishes the outbox in order."""

    def __init__(self, database: Database, client: Callable[[], Client]) -> None:
        self._database = database
        self._publisher = OutboxPublisher(client, SOURCE)

    async def step(self) -> None:
        """Publish all there is. Raises NotStoredError or Unavailable; what was published until then is struck out."""
        while True:
            async with self._database.transaction() as tables:
                events = await tables.after.pending_events(PAGE)
            done: list[int] = []
            try:
                async for stored in self._publisher.publish(events):
                    done += [event.id for event in stored]
            finally:
                if done:
                    async with self._database.transaction() as tables:
                        await tables.after.events_done(done)
            if len(events) < PAGE:
                return


class Kicker(Protocol):
    """Whoever can end connections."""

    async def kick(self, user: str) -> int: ...


class Kicks:
    """Ends the connections of peers whose rights have changed."""

    def __init__(self, database: Database, system: Kicker) -> None:
        self._database = database
        self._system = system

    async def step(self) -> None:
        """End all that is wished for, many users at a time: each takes as long as the slowest server needs to answer.
        Raises UnavailableError, or what nats-py raises when no server answers."""
        async with self._database.transaction() as tables:
            wishes = await tables.after.pending_kicks(PAGE)
        limit = asyncio.Semaphore(KICKS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for user in dict.fromkeys(wish.user for wish in wishes):
                group.create_task(self._end(user, [wish.id for wish in wishes if wish.user == user], limit))

    async def _end(self, user: str, wishes: list[int], limit: asyncio.Semaphore) -> None:
        async with limit:
            ended = await self._system.kick(user)
        log.info("kick.done", user=user, connections=ended)
        async with self._database.transaction() as tables:
            await tables.after.kicks_done(wishes)
