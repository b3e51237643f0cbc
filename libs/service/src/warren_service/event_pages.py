"""Stored events by sequence, a page at a time, by Direct Get: it leaves no consumer on the server (NATS ADR-31)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from warren_bus.errors import BusError
from warren_contracts import subjects
from warren_contracts.bus_queries import EventPage, EventRecord, ReadEvents
from warren_contracts.cloudevents import structured
from warren_contracts.problems import UnavailableError
from warren_service.guarded_publisher import describe
from warren_trust.errors import TrustError

READ_TIMEOUT = 2.0  # s
PAGE_BYTES = 400_000  # of the events of one page; a message of the bus has 1 MB
DIRECT_GET = "$JS.API.DIRECT.GET"
_END_OF_BATCH, NOT_FOUND = "204", "404"


class EventPages:
    """Reads EVENT on the connection of a service."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    async def page(self, query: ReadEvents) -> EventPage:
        """A page of events. Raises UnavailableError."""
        async with reading():
            state = (await self._client().jetstream().stream_info(subjects.EVENT_STREAM)).state
            newest = state.last_seq
            if query.after is None:
                return EventPage(events=(), next_after=newest)
            if query.after > newest:
                return EventPage(events=(), next_after=0, more=newest > 0, missed=True)
            found = await self._batch(query, query.after + 1) if query.after < newest else []
        events = tuple(map(_record, found))
        complete = len(found) < query.limit and sum(len(message.data) for message in found) < PAGE_BYTES
        return EventPage(
            events=events,
            next_after=newest if complete else events[-1].sequence,
            more=not complete,
            missed=query.after + 1 < state.first_seq,
        )

    async def _batch(self, query: ReadEvents, first: int) -> list[Msg]:
        """Messages from a sequence on, up to the limits of a page."""
        client = self._client()
        inbox = client.new_inbox()
        found: list[Msg] = []
        wanted = {
            "seq": first, "batch": query.limit, "max_bytes": PAGE_BYTES,
            "next_by_subj": f"{subjects.VERSION}.event.*.{query.kind or '*'}.>",
        }  # fmt: skip
        subscription = await client.subscribe(inbox)
        try:
            await client.publish(f"{DIRECT_GET}.{subjects.EVENT_STREAM}", json.dumps(wanted).encode(), reply=inbox)
            async with asyncio.timeout(READ_TIMEOUT):
                while True:
                    message = await subscription.next_msg(timeout=READ_TIMEOUT)
                    status = (message.headers or {}).get("Status", "")
                    if status in (_END_OF_BATCH, NOT_FOUND):
                        return found
                    if status:
                        raise NatsError(f"nats: {status} {(message.headers or {}).get('Description', '')}")
                    found.append(message)
        finally:
            await subscription.unsubscribe()


def _record(message: Msg) -> EventRecord:
    headers = message.headers or {}
    sequence = int(headers["Nats-Sequence"])
    return EventRecord(sequence=sequence, event=structured(headers["Nats-Subject"], sequence, headers, message.data))


@asynccontextmanager
async def reading() -> AsyncIterator[None]:
    """Convert errors of the bus to UnavailableError."""
    try:
        yield
    except (NatsError, BusError, TrustError, TimeoutError, OSError) as error:
        raise UnavailableError(f"the streams cannot be read: {describe(error)}; repeat the call") from None
