"""Pull subscribers of a service's broker while the server is away."""

from typing import Any

import pytest
from faststream.nats import JStream, NatsMessage, PullSub
from nats.errors import TimeoutError as NatsTimeout

from warren_bus import streams
from warren_bus.service import build_broker
from warren_bus.testing import RealServer, eventually
from warren_contracts.subjects import TELEMETRY_STREAM


async def pull_in_vain(subscriber: Any) -> None:
    with pytest.raises(NatsTimeout):
        await subscriber.subscription.fetch(batch=10, timeout=0.1)


async def test_a_pull_subscriber_leaves_nothing_in_the_buffer_while_the_server_is_away(
    bus: RealServer, connect: Any
) -> None:
    link = await connect("metrics")
    await streams.declare(link.client.jetstream(), streams.TELEMETRY)
    broker = build_broker(bus.settings("metrics"), "metrics")
    taken: list[int] = []

    async def as_it_is(message: Any) -> Any:
        return message.body

    @broker.subscriber(
        "warren.v1.telemetry.>", stream=JStream(TELEMETRY_STREAM, declare=False), durable="metrics", decoder=as_it_is,
        pull_sub=PullSub(batch_size=10, timeout=0.1, batch=True),
    )  # fmt: skip
    async def take(message: NatsMessage) -> None:
        raw: Any = message.raw_message
        taken.append(len(raw))

    await broker.start()
    try:
        (subscriber,) = broker.subscribers
        pull: Any = subscriber
        await bus.kill()
        await eventually(lambda: not broker.client.is_connected)
        for _ in range(3):  # what was under way when the server went ends meanwhile
            await pull_in_vain(pull)
        held = broker.client._pending_data_size
        for _ in range(5):
            await pull_in_vain(pull)
        assert broker.client._pending_data_size == held
        await bus.start()
        await eventually(lambda: broker.client.is_connected)
    finally:
        await broker.stop()
