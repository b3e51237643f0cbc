"""Heartbeats from the stream PRESENCE: a durable pull consumer, in batches.

A peer has one message of 8 kB there, so a whole batch has 4 MB: far below the 64 MB at which the server disconnects a client
that does not read fast enough (a pull of 500 messages of 500 kB did that once a second).

The consumer starts with the newest message of each peer, and the server deletes it after a minute without a pull: so a registry
that was down for an hour reads one heartbeat per peer, not an hour of them. A raw pull loop, not FastStream's: 2.7 times cheaper
per message, and it detects that its consumer was deleted.
"""

from collections.abc import Awaitable, Callable

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from pydantic import ValidationError

from warren_bus.connection import Connection
from warren_contracts import subjects
from warren_contracts.subjects import PRESENCE_STREAM
from warren_contracts.telemetry import PRESENCE, Presence
from warren_registry.presence.model import Heartbeat
from warren_service.streams import wait_for

CONSUMER = "registry-presence"
BATCH = 500
PULL_TIMEOUT = 1.0  # s: how long an empty pull waits
INACTIVE_THRESHOLD = 60.0  # s without a pull
CHECK_AFTER = 10  # empty pulls between two checks that the consumer still exists

log = structlog.get_logger(__name__)

Receive = Callable[[tuple[Heartbeat, ...]], Awaitable[None]]


class Heartbeats:
    """Pulls forever; `receive` gets every batch, also empty ones, which show that the registry receives."""

    def __init__(self, connection: Connection, receive: Receive) -> None:
        self._connection = connection
        self._receive = receive

    async def follow(self) -> None:
        """Pull until a failure; raises what nats-py raises. The caller repeats it."""
        client = await self._connection.wait_connected()
        subscription = await self._subscribe(client)
        empty = 0
        try:
            while client.is_connected:
                try:
                    messages = await subscription.fetch(BATCH, timeout=PULL_TIMEOUT)
                except TimeoutError:  # nats-py raises its own and asyncio's
                    messages = []
                if not messages:
                    empty += 1
                    if empty % CHECK_AFTER == 0:
                        await subscription.consumer_info()
                elif client.is_connected:
                    await messages[-1].ack()
                if client.is_connected:
                    await self._receive(tuple(beat for beat in map(parse_heartbeat, messages) if beat is not None))
        finally:
            if client.is_connected:
                await subscription.unsubscribe()

    async def _subscribe(self, client: Client) -> JetStreamContext.PullSubscription:
        js = client.jetstream()
        await wait_for(js, PRESENCE_STREAM)
        config = ConsumerConfig(
            name=CONSUMER, durable_name=CONSUMER, deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, ack_policy=AckPolicy.ALL,
            filter_subject=f"{subjects.VERSION}.telemetry.*.{PRESENCE}", inactive_threshold=INACTIVE_THRESHOLD,
            max_ack_pending=2 * BATCH,
        )  # fmt: skip
        await js.add_consumer(PRESENCE_STREAM, config)
        return await js.pull_subscribe_bind(consumer=CONSUMER, stream=PRESENCE_STREAM)


def parse_heartbeat(message: Msg) -> Heartbeat | None:
    """Parse a heartbeat; its time is that of its storage. None for an invalid message."""
    try:
        sender = subjects.parse_telemetry(message.subject)
        presence = Presence.model_validate_json(message.data)
    except (ValueError, ValidationError):
        log.debug("heartbeats.refused", subject=message.subject)
        return None
    sent_at = presence.at if presence.at.tzinfo is not None else None  # untrusted
    stored_at, stopping = message.metadata.timestamp, presence.state == "stopping"
    return Heartbeat(sender.peer, stopping, stored_at, presence.drivers, presence.host, sent_at, presence.instance)
