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
    """Closes connections."""

    async def kick(self, user: str) -> int: ...


class Kicks:
    """Closes the connections of users whose rights have changed."""

    def __init__(self, database: Database, system: Kicker) -> None:
        self._database = database
        self._system = system

    async def step(self) -> None:
        """Close the requested connections, many users at a time: each takes as long as the slowest server needs to reply.

        Raises UnavailableError, or what nats-py raises when no server replies.
        """
        async with self._database.transaction() as tables:
            requests = await tables.after_commit.pending_kicks(PAGE)
        limit = asyncio.Semaphore(KICKS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for user in dict.fromkeys(request.user for request in requests):
                group.create_task(
                    self._close(user, [request.id for request in requests if request.user == user], limit)
                )

    async def _close(self, user: str, requests: list[int], limit: asyncio.Semaphore) -> None:
        async with limit:
            closed = await self._system.kick(user)
        log.info("kick.done", user=user, connections=closed)
        async with self._database.transaction() as tables:
            await tables.after_commit.kicks_done(requests)
