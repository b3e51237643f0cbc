"""Reading EVENT for one listener: an ephemeral pull consumer that begins where the listener left off.

Pulled in batches, so that a slow listener holds up nobody and nothing is kept for it here beyond one batch. The consumer
lives in the server's memory; when it is gone (a restart, a new leader) another one goes on after the last sequence.
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
BEAT = 10.0  # s between signs of life; below the idle limits of common proxies (30 s and more)
RETRY = 0.5  # s between two tries to make a consumer
FORGET_AFTER = 60.0  # s after which the server forgets the consumer of a listener that left


class EventReader:
    """Makes one follower for each listener."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changed = asyncio.Event()
        connection.on_connected(self._on_connected)

    async def _on_connected(self) -> None:
        # Whoever waits for an answer to a pull of the former connection waits without result: wake them all.
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
                log.info("events.retry", reason=str(error) or type(error).__name__)
                if listening:  # else it would say that the place is held from which the listener hears everything
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
                log.info("events.again", reason=str(error) or type(error).__name__)
                await _wait(changed, RETRY)
            finally:
                with suppress(NatsError, OSError, ValueError):
                    await subscription.unsubscribe()

    async def _pull(
        self, subscription: JetStreamContext.PullSubscription, changed: asyncio.Event
    ) -> AsyncGenerator[StoredEvent | None, None]:
        """Until the connection is another one."""
        pending = (await subscription.consumer_info()).num_pending or 0
        behind = pending > 0
        if not behind:
            yield None  # nothing was missed
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
    """The sequence after which to begin; a sequence that the stream has not reached belongs to a former stream."""
    state = (await client.jetstream().stream_info(EVENT_STREAM)).state
    return state.last_seq if after is None or after > state.last_seq else after


async def _consumer(client: Client, after: int, kinds: Collection[str]) -> JetStreamContext.PullSubscription:
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=AckPolicy.NONE,
        filter_subjects=[f"{VERSION}.event.*.{kind}.>" for kind in sorted(set(kinds))] or [f"{VERSION}.event.>"],
        inactive_threshold=FORGET_AFTER,
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
