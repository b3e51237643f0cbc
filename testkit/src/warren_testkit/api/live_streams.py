"""The hub of the live view on a fake bus, and readers of its streams."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from warren_api.health import HealthProbe
from warren_api.live.filters import LiveFilter
from warren_api.live.hub import LiveHub, LiveStream
from warren_contracts.base import Document
from warren_contracts.live import LiveMessage
from warren_testkit.api.bus import FakeBus
from warren_testkit.waiting import LIMIT_S

READER = ("ann", "192.0.2.1")
"""Name and address of who reads."""


class LiveReader:
    """A reader of a live stream; `text` is all that it has received."""

    def __init__(self, stream: LiveStream) -> None:
        self.stream = stream
        self._messages = stream.messages(60)
        self.text = ""

    async def next(self) -> LiveMessage:
        async with asyncio.timeout(LIMIT_S):
            message = await anext(self._messages)
        assert message is not None
        self.text += message.body
        return LiveMessage.model_validate_json(message.body)

    async def until_ready(self) -> list[LiveMessage]:
        found: list[LiveMessage] = []
        while not found or found[-1].kind != "ready":
            found.append(await self.next())
        return found


class LiveBed:
    """A hub on a fake bus. With `scope`: its streams are those of a token for the peers of these tags."""

    def __init__(self, bus: FakeBus, scope: tuple[str, ...] | None = None) -> None:
        self.bus, self._scope = bus, scope
        self.stopping = asyncio.Event()
        self.hub = LiveHub(self.bus, HealthProbe(self.bus), self.stopping)
        self.opened: list[LiveStream] = []

    async def open(self, cursor: int | None = None, **wanted: Any) -> LiveReader:
        self.hub.admit(*READER)
        found = LiveFilter(**{name: frozenset(it) for name, it in wanted.items()})
        stream = await self.hub.open(found, cursor, self._scope)
        self.opened.append(stream)
        return LiveReader(stream)


@asynccontextmanager
async def live_bed(bus: FakeBus, scope: tuple[str, ...] | None = None) -> AsyncIterator[LiveBed]:
    """A bed whose streams are closed at the end."""
    bed = LiveBed(bus, scope)
    yield bed
    bed.stopping.set()
    for stream in bed.opened:
        bed.hub.leave(*READER, stream)


async def publish_event(bus: FakeBus, event: Document) -> None:
    """Let a service publish an event."""
    kind: Any = type(event)
    await bus.publish("warren.v1.event.metrics.tunnel.x", kind.TYPE, event.model_dump_json().encode())
