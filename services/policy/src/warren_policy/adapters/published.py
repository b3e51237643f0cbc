"""What the streams hold, for operators and other systems: the newest set of a reader, and stored events by sequence."""

from collections.abc import Callable

from nats.aio.client import Client

from warren_contracts import subjects
from warren_contracts.bus_queries import EventPage, ReadEvents
from warren_contracts.documents import SignedDocument
from warren_contracts.subjects import Audience
from warren_service.event_pages import DIRECT_GET, NOT_FOUND, READ_TIMEOUT, EventPages, reading
from warren_trust.signing import parse_signed, to_document


class NatsPublishedStreams:
    """`Published` on JetStream."""

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client
        self._events = EventPages(client)

    async def policy_set(self, reader: Audience) -> SignedDocument | None:
        subject = subjects.policy(reader)
        async with reading():
            found = await self._client().request(
                f"{DIRECT_GET}.{subjects.POLICY_STREAM}.{subject}", b"", timeout=READ_TIMEOUT
            )
            if (found.headers or {}).get("Status") == NOT_FOUND:
                return None
            return to_document(parse_signed(subject, found.headers, found.data))

    async def events(self, query: ReadEvents) -> EventPage:
        return await self._events.page(query)
