"""Read EVENT for one listener, with an ephemeral pull consumer that starts where the listener left off.

It pulls in batches, so that a slow listener delays no other and at most one batch is held for it. The consumer is in the server's
memory; when it is lost (a restart, a new leader) another one continues after the last sequence.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, suppress

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from warren_api.ports import StoredEvent
from warren_bus.connection import Connection
from warren_bus.errors import NotConnectedError
from warren_contracts.subjects import EVENT_STREAM, VERSION

log = structlog.get_logger("warren_api")

BATCH = 64  # messages held for one listener
BEAT = 10.0  # s between keepalives; below the idle limits of common proxies (30 s and more)
RETRY = 0.5  # s between two attempts to create a consumer
INACTIVE_THRESHOLD = 60.0  # s after which the server deletes the consumer of a closed stream


class EventReader:
    """Creates a consumer for each listener."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changed = asyncio.Event()
        connection.on_connected(self._on_connected)

    async def _on_connected(self) -> None:
        # Pulls on the former connection never get a reply: wake all that wait for one.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def follow(self, after: int | None, kinds: Collection[str]) -> AsyncGenerator[StoredEvent | None, None]:
        """See `ports.Bus.events`."""
        last, listening = after, False
        while True:
            changed = self._changed
            try:
                client = self._connection.client
                start = await _start(client, last)
                last = start
                subscription = await _consumer(client, start, kinds)
            except (NatsError, NotConnectedError, TimeoutError, OSError) as error:
                log.info("events.retry", error=str(error) or type(error).__name__)
                if listening:  # else it would mean that the position in the stream is fixed
                    yield None
                await _wait(changed, RETRY)
                continue
            try:
                async with aclosing(self._pull(subscription, changed)) as pulled:
                    async for message in pulled:
                        listening = listening or message is None
                        yield message
                        last = message.sequence if message else last
            except (NatsError, TimeoutError, OSError) as error:
                log.info("events.reconnect", error=str(error) or type(error).__name__)
                await _wait(changed, RETRY)
            finally:
                with suppress(NatsError, OSError, ValueError):
                    await subscription.unsubscribe()

    async def _pull(
        self, subscription: JetStreamContext.PullSubscription, changed: asyncio.Event
    ) -> AsyncGenerator[StoredEvent | None, None]:
        """Pull until the connection is another one."""
        pending = (await subscription.consumer_info()).num_pending or 0
        behind = pending > 0
        if not behind:
            yield None  # no event was missed
        while not changed.is_set():
            pulling = asyncio.ensure_future(subscription.fetch(max(1, min(BATCH, pending)), timeout=BEAT))
            waiting = asyncio.ensure_future(changed.wait())
            try:
                await asyncio.wait({pulling, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if not pulling.done():
                    return
                for message in pulling.result():
                    yield _stored(message)
                    pending = message.metadata.num_pending
                    if not pending and behind:
                        behind = False
                        yield None
            except NatsTimeout:
                pending = 0
                yield None
            finally:
                pulling.cancel()
                waiting.cancel()
                with suppress(asyncio.CancelledError, NatsError):
                    await pulling


async def _start(client: Client, after: int | None) -> int:
    """The sequence after which to start; one that the stream has not reached belongs to a former stream."""
    state = (await client.jetstream().stream_info(EVENT_STREAM)).state
    return state.last_seq if after is None or after > state.last_seq else after


async def _consumer(client: Client, after: int, kinds: Collection[str]) -> JetStreamContext.PullSubscription:
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=AckPolicy.NONE,
        filter_subjects=[f"{VERSION}.event.*.{kind}.>" for kind in sorted(set(kinds))] or [f"{VERSION}.event.>"],
        inactive_threshold=INACTIVE_THRESHOLD,
        mem_storage=True,
        num_replicas=1,
    )
    js = client.jetstream()
    info = await js.add_consumer(EVENT_STREAM, config=config)
    return await js.pull_subscribe_bind(consumer=info.name, stream=EVENT_STREAM)


def _stored(message: Msg) -> StoredEvent:
    return StoredEvent(message.metadata.sequence.stream, message.subject, dict(message.headers or {}), message.data)


async def _wait(changed: asyncio.Event, limit: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(changed.wait(), limit)
