"""Close the connections of peers and operators whose rights have changed, after the commit of the change.

The request is a row of the change's own transaction, so a crash after the commit loses none. A repeat is harmless: a peer that has
reconnected reconnects once more.
"""

import asyncio
from typing import Protocol

import structlog

from warren_registry.ports import Database

PAGE = 200
KICKS_AT_ONCE = 32  # requests to all servers in progress

log = structlog.get_logger(__name__)


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
