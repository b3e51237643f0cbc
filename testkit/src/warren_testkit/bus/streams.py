"""The streams of a real server, declared as in production: by the one bus user that may."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from nats.errors import Error as NatsError

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_process.background import end_tasks
from warren_service.streams import STREAMS, StreamSpec, declare
from warren_stack.streams import NAME, StreamKeeper
from warren_testkit.bus.servers import RealServer
from warren_testkit.waiting import eventually


async def declare_streams(
    server: RealServer, *specs: StreamSpec, replicas: int = 1, urls: tuple[str, ...] = ()
) -> None:
    """Declare these streams, or all; a server that is starting is awaited. `urls`: of the whole cluster."""
    own = server.settings(NAME)
    settings = replace(own, servers=urls or own.servers)
    async with Connection(settings, name="declare", inbox_prefix=inbox(NAME)) as connection:
        client = await connection.wait_connected()
        for spec in specs or STREAMS.values():
            await declare(client.jetstream(), spec, replicas)


@asynccontextmanager
async def kept_streams(server: RealServer) -> AsyncIterator[StreamKeeper]:
    """The stream keeper of `warren up` in this process: it declares all streams, also after the server lost its store."""
    async with Connection(server.settings(NAME), name=NAME, inbox_prefix=inbox(NAME)) as connection:
        keeper = StreamKeeper(connection)
        await connection.wait_connected()

        async def declared() -> bool:
            await keeper.step()
            return True

        await eventually(declared, ignoring=(NatsError,))  # a busy server may be slow to answer
        running = asyncio.create_task(keeper.run())
        try:
            yield keeper
        finally:
            await end_tasks(running)
