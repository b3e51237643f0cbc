"""Heartbeats from the stream PRESENCE: a durable pull consumer, in batches.

A peer has one message of 8 kB there, so a whole batch has 4 MB: far below the 64 MB at which the server cuts a client that does
not read fast enough (a pull of 500 messages of 500 kB did that once a second).

The consumer begins with the newest message of each peer and is forgotten by the server when nobody pulls for a minute: so
a registry that was away for an hour reads one heartbeat a peer, not an hour of them. A raw pull loop, not FastStream's:
2.7 times cheaper a message (nats.md, section 2), and it notices that its consumer is gone.
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
FORGET_AFTER = 60.0  # s without a pull
LOOKS = 10  # empty pulls between two looks whether the consumer still exists

log = structlog.get_logger(__name__)


Heard = Callable[[tuple[Heartbeat, ...]], Awaitable[None]]


class Heartbeats:
    """Pulls for ever; `heard` gets every batch, also empty ones, which say that we are listening."""

    def __init__(self, connection: Connection, heard: Heard) -> None:
        self._connection = connection
        self._heard = heard

    async def follow(self) -> None:
        """Pull until something fails; raises what nats-py raises. Call it again then."""
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
                    if empty % LOOKS == 0:
                        await subscription.consumer_info()
                elif client.is_connected:
                    await messages[-1].ack()
                if client.is_connected:
                    await self._heard(tuple(beat for beat in map(parse_heartbeat, messages) if beat is not None))
        finally:
            if client.is_connected:
                await subscription.unsubscribe()

    async def _subscribe(self, client: Client) -> JetStreamContext.PullSubscription:
        js = client.jetstream()
        await wait_for(js, PRESENCE_STREAM)
        config = ConsumerConfig(
            name=CONSUMER, durable_name=CONSUMER, deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, ack_policy=AckPolicy.ALL,
            filter_subject=f"{subjects.VERSION}.telemetry.*.{PRESENCE}", inactive_threshold=FORGET_AFTER,
            max_ack_pending=2 * BATCH,
        )  # fmt: skip
        await js.add_consumer(PRESENCE_STREAM, config)
        return await js.pull_subscribe_bind(consumer=CONSUMER, stream=PRESENCE_STREAM)


def parse_heartbeat(message: Msg) -> Heartbeat | None:
    """A heartbeat by its subject and time of storage; None for what is none."""
    try:
        sender = subjects.parse_telemetry(message.subject)
        said = Presence.model_validate_json(message.data)
    except (ValueError, ValidationError):
        log.debug("heartbeats.refused", subject=message.subject)
        return None
    return Heartbeat(sender.peer, said.state == "stopping", message.metadata.timestamp, said.daemon)
