"""Pull subscribers of a service's broker while the server is unavailable."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from faststream.nats import JStream, NatsMessage, PullSub
from nats.errors import TimeoutError as NatsTimeout

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_contracts.subjects import TELEMETRY_STREAM, telemetry
from warren_service import streams
from warren_service.broker import Broker, build_broker
from warren_service.pull import fetch
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.waiting import eventually


async def pull_without_result(subscriber: Any) -> None:
    with pytest.raises(NatsTimeout):
        await subscriber.subscription.fetch(batch=10, timeout=0.1)


@asynccontextmanager
async def telemetry_of(bus: RealServer) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """A gateway that publishes a message at each call, and returns its sequence in the stream."""
    async with GrantingCallout(bus) as callout:
        settings, nkey = bus.new_agent("gw1")
        callout.enrol(nkey, "gw1", ())
        async with Connection(settings, name="gw1", inbox_prefix=inbox("gw1")) as agent:
            js = (await agent.wait_connected()).jetstream()

            async def publish() -> int:
                return int((await js.publish(telemetry("gw1", "report"), b"{}")).seq)

            yield publish


def taking_broker(bus: RealServer, taken: list[int], wait_s: float = 0.1) -> Broker:
    """The metrics service's way of pulling; `taken` gets the stream's sequence of each message."""
    broker = build_broker(bus.settings("metrics"), "metrics")

    async def as_it_is(message: Any) -> Any:
        return message.body

    @broker.subscriber(
        "warren.v1.telemetry.>", stream=JStream(TELEMETRY_STREAM, declare=False), durable="metrics", decoder=as_it_is,
        pull_sub=PullSub(batch_size=10, timeout=wait_s, batch=True),
    )  # fmt: skip
    async def take(message: NatsMessage) -> None:
        raw: Any = message.raw_message
        taken.extend(item.metadata.sequence.stream for item in raw)

    return broker


async def test_a_pull_subscriber_leaves_nothing_in_the_buffer_while_the_server_is_unavailable(
    bus: RealServer, connect: Any
) -> None:
    broker = taking_broker(bus, [])
    await broker.start()
    try:
        (subscriber,) = broker.subscribers
        pull: Any = subscriber
        await bus.kill()
        await eventually(lambda: not broker.client.is_connected)
        for _ in range(3):  # what was under way when the server went ends meanwhile
            await pull_without_result(pull)
        held = broker.client._pending_data_size
        for _ in range(5):
            await pull_without_result(pull)
        assert broker.client._pending_data_size == held
        await bus.start()
        await eventually(lambda: broker.client.is_connected)
    finally:
        await broker.stop()


async def test_a_pull_takes_what_waits_and_waits_for_nothing_more(bus: RealServer, connect: Any) -> None:
    link = await connect("metrics")
    js = link.client.jetstream()
    await streams.wait_for(js, TELEMETRY_STREAM)
    pull = await js.pull_subscribe(
        "warren.v1.telemetry.>", "metrics", TELEMETRY_STREAM, inbox_prefix=f"{inbox('metrics')}.".encode()
    )
    with pytest.raises(NatsTimeout):
        await fetch(pull, 10, 0.1)
    async with telemetry_of(bus) as publish:
        for _ in range(5):
            await publish()
        assert len(await fetch(pull, 3, 60.0)) == 3
        assert len(await fetch(pull, 3, 60.0)) == 2
        waiting = asyncio.create_task(fetch(pull, 3, 60.0))
        await publish()
        assert len(await waiting) == 1
    assert pull.pending_msgs == pull.pending_bytes == 0


async def test_a_batch_is_processed_though_it_is_not_full(bus: RealServer, connect: Any) -> None:
    """FastStream asks for the rest of it for the time of a whole pull: here an hour."""
    link = await connect("metrics")
    await streams.wait_for(link.client.jetstream(), TELEMETRY_STREAM)
    taken: list[int] = []
    broker = taking_broker(bus, taken, wait_s=3_600.0)
    await broker.start()
    try:
        async with telemetry_of(bus) as publish:
            for _ in range(3):
                sequence = await publish()
                await eventually(lambda: taken[-1:] == [sequence], what="the message is taken")  # noqa: B023 - awaited in this round
    finally:
        await broker.stop()


async def test_a_pull_that_runs_out_of_time_loses_nothing_of_its_batch(bus: RealServer, connect: Any) -> None:
    """nats-py ends it by the builtin TimeoutError, of which FastStream's task used to die with what it had taken."""
    link = await connect("metrics")
    js = link.client.jetstream()
    await streams.wait_for(js, TELEMETRY_STREAM)
    taken: list[int] = []
    broker = taking_broker(bus, taken)
    await broker.start()
    try:
        (subscriber,) = broker.subscribers
        pull: Any = subscriber
        fetch = type(pull.subscription).fetch.__get__(pull.subscription)
        out_of_time = 0
        brought: list[Any] = []

        async def first_some_then_late(*arguments: Any, **options: Any) -> list[Any]:
            nonlocal out_of_time
            if brought and not out_of_time:
                out_of_time += 1
                raise TimeoutError
            found: list[Any] = await fetch(*arguments, **options)
            brought.extend(found)
            return found

        pull.subscription.fetch = broker._guard_pull(first_some_then_late)
        async with telemetry_of(bus) as publish:
            sequence = await publish()
        await eventually(lambda: taken == [sequence], what="the message that came before the late pull")
        assert out_of_time == 1
    finally:
        await broker.stop()
