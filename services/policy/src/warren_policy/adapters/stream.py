"""Publish to POLICY and EVENT: signed, one atomic batch at a time, safe to repeat at any moment (`GuardedPublisher`)."""

from collections.abc import Callable, Mapping, Sequence

from nats.aio.client import Client

from warren_bus.errors import NotStoredError
from warren_contracts import cloudevents, subjects
from warren_contracts.cloudevents import EventAttributes
from warren_contracts.subjects import Audience
from warren_policy.domain.batches import cut
from warren_policy.errors import NotPublishedError, StoreBehindStreamError
from warren_policy.ports import Outbox, OutboxSet
from warren_service import outbox as event_outbox
from warren_service.guarded_publisher import FAILURES, GuardedMessage, GuardedPublisher, StreamAheadError, describe
from warren_trust.signing import Signer, Version

SOURCE = "/services/policy"
PARALLEL = 64  # events at a time


class StreamPublisher:
    """`Publisher` on JetStream."""

    def __init__(self, client: Callable[[], Client], signer: Signer) -> None:
        self._signer = signer
        self._sets = GuardedPublisher(client, subjects.POLICY_STREAM)
        self._events = event_outbox.OutboxPublisher(client, SOURCE, PARALLEL)
        self._sequences: dict[str, int] = {}  # by subject, of our own last publications: saves reading back before each

    def forget(self) -> None:
        """Sequences hold within one incarnation of the stream: call this after every reconnect."""
        self._sequences.clear()

    async def publish_sets(self, outbox: Outbox) -> None:
        for batch in cut(outbox.sets):
            await self._publish_batch(outbox, batch)

    async def publish_events(self, outbox: Outbox) -> None:
        events = [
            event_outbox.OutboxEvent(
                event.event_id, event.subject, event.type, event.payload.decode(), outbox.traceparent, outbox.at
            )
            for event in outbox.events
        ]
        try:
            async for _ in self._events.publish(events):
                pass
        except FAILURES as error:
            raise NotPublishedError(describe(error)) from None

    async def held(self) -> Mapping[Audience, Version]:
        prefix = subjects.policy("")
        try:
            versions = await self._sets.versions(f"{prefix}>")
        except NotStoredError as error:
            raise NotPublishedError(str(error)) from None
        return {subject.removeprefix(prefix): version for subject, version in versions.items()}

    async def _publish_batch(self, outbox: Outbox, batch: Sequence[OutboxSet]) -> None:
        messages = [self._message(outbox, item) for item in batch]
        # Forgotten until the outcome is known: after a failure they are read back.
        for message in messages:
            self._sequences.pop(message.subject, None)
        try:
            self._sequences |= await self._sets.publish(messages)
        except StreamAheadError as error:
            raise StoreBehindStreamError(str(error)) from None
        except NotStoredError as error:
            raise NotPublishedError(f"revision {outbox.revision}: {error}") from None

    def _message(self, outbox: Outbox, item: OutboxSet) -> GuardedMessage:
        attributes = EventAttributes(cloudevents.POLICY_PUBLISHED, SOURCE, item.event_id, outbox.at)
        subject = subjects.policy(item.reader)
        headers = {
            **cloudevents.build_headers(attributes, outbox.traceparent),
            **self._signer.headers(subject, outbox.epoch, outbox.revision, item.payload),
        }
        version = (outbox.epoch, outbox.revision)
        return GuardedMessage(subject, version, item.payload, headers, self._sequences.get(subject))
