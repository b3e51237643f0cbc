"""The stream keeper, `python -m warren_stack.streams`: the only process that may declare and change the streams of the bus.

It declares them at its start and after every reconnect, and compares them when the server reports a change and every 15 s. A stream
that differs was changed by somebody who has its key or the server: it is logged (`bus.stream_changed`, with the fields) and put
back. It serves no request and reads nothing but the server's replies, so there is little to attack.
"""

from warren_process.lean_start import without_pretty_tracebacks

if __name__ == "__main__":
    without_pretty_tracebacks()

import asyncio
import signal

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError
from pydantic import Field

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.settings import BusSettings
from warren_process.background import end_tasks
from warren_service.process import ServiceSettings, launch
from warren_service.streams import STREAMS, StreamSpec, declare, deviations, stream_config
from warren_service.worker import Worker

NAME = "streams"
INTERVAL = 15.0  # s between two comparisons without a notice: a notice may be lost
ADVISORY = "$JS.EVENT.ADVISORY.STREAM"
ACTIONS = ("CREATED", "UPDATED", "DELETED")

log = structlog.get_logger(__name__)


class StreamSettings(ServiceSettings):
    """The settings of the stream keeper; `docs/interfaces.md` has the table."""

    stream_replicas: int = Field(default=1, ge=1, le=5)  # of every stream; 3 on a cluster of three servers


class StreamKeeper:
    """Keeps the streams as `warren_service.streams` specifies them. `run` works until cancelled."""

    def __init__(self, connection: Connection, replicas: int = 1) -> None:
        self._connection = connection
        self._replicas = replicas
        self._subscribed: Client | None = None
        self._declared: set[str] = set()
        self._reported: dict[str, tuple[str, ...]] = {}
        self._worker = Worker("streams", self.step, INTERVAL)
        connection.on_connected(self._connected)

    async def run(self) -> None:
        await self._worker.run()

    async def step(self) -> None:
        """Declare what is missing, in the order of `STREAMS`, and put back what differs."""
        for spec in STREAMS.values():
            await self._keep(spec)

    async def _keep(self, spec: StreamSpec) -> None:
        js = self._connection.client.jetstream()
        try:
            found = deviations((await js.stream_info(spec.name)).config, stream_config(spec, self._replicas))
        except NotFoundError:
            found = ("missing",)
        first = spec.name not in self._declared
        if not found and not first:
            self._reported.pop(spec.name, None)
            return
        if found and self._reported.get(spec.name) != found:  # once for a property that NATS cannot change back
            self._reported[spec.name] = found
            emit = log.info if first else log.error  # at the start: of an earlier version, or not declared yet
            emit("bus.stream_declared" if first else "bus.stream_changed", stream=spec.name, fields=list(found))
        await declare(js, spec, self._replicas)
        self._declared.add(spec.name)

    async def _connected(self) -> None:
        client = self._connection.client
        if client is not self._subscribed:
            for action in ACTIONS:
                for stream in STREAMS:
                    await client.subscribe(f"{ADVISORY}.{action}.{stream}", cb=self._noticed)
            self._subscribed = client
        self._declared.clear()
        self._worker.wake()

    async def _noticed(self, message: Msg) -> None:
        self._worker.wake()


async def run(bus: BusSettings, settings: StreamSettings) -> None:
    """Keep the streams until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Connection(bus, name=NAME, inbox_prefix=inbox(NAME)) as connection:
        keeping = asyncio.create_task(StreamKeeper(connection, settings.stream_replicas).run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
        finally:
            stopping.cancel()
            await end_tasks(keeping)


if __name__ == "__main__":
    raise SystemExit(launch(NAME, StreamSettings, run))
