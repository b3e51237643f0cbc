"""The streams on a real server: declared, brought up to date, and never taken over by one peer."""

import asyncio
from pathlib import Path

import pytest
import structlog
from nats.errors import ConnectionClosedError
from nats.js.api import ConsumerConfig, StreamConfig
from nats.js.errors import BadRequestError

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_contracts import subjects
from warren_contracts.telemetry import MAX_PRESENCE, MAX_TELEMETRY, STORED_KINDS
from warren_service.streams import STREAMS, declare, wait_for
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.bus.accounts import Bus


async def test_waiting_for_a_stream_ends_with_its_client(bus: Bus) -> None:
    client = bus.live.client("policy")
    js = client.jetstream()
    await client.close()
    with pytest.raises(ConnectionClosedError):
        await wait_for(js, "POLICY")


async def test_streams_are_declared_twice_alike(bus: Bus) -> None:
    for spec in STREAMS.values():
        js = bus.live.client("streams").jetstream()
        await declare(js, spec)
        await wait_for(js, spec.name)
        config = (await js.stream_info(spec.name)).config
        assert config.subjects == list(spec.subjects)
        assert config.max_age == spec.max_age


async def test_declare_brings_an_older_stream_up_to_date(bus: Bus) -> None:
    js = bus.live.client("streams").jetstream()
    spec = STREAMS["TELEMETRY"]
    config = (await js.stream_info(spec.name)).config
    await js.update_stream(config.evolve(max_age=600.0))
    await declare(js, spec)
    assert (await js.stream_info(spec.name)).config.max_age == spec.max_age


def before_heartbeats_had_a_stream() -> StreamConfig:
    """TELEMETRY as earlier versions declared it."""
    return StreamConfig(
        name="TELEMETRY", subjects=["warren.v1.telemetry.>"], max_age=24 * 3600.0, max_bytes=2 << 30,
        duplicate_window=120.0,
    )  # fmt: skip


async def test_an_older_telemetry_gives_its_heartbeats_up_and_loses_nothing(tmp_path: Path) -> None:
    async with RealServer(tmp_path) as server, GrantingCallout(server) as callout:
        settings, nkey = server.new_agent("gw1")
        callout.enrol(nkey, "gw1", ())
        async with (
            Connection(server.settings("metrics"), name="metrics", inbox_prefix=inbox("metrics")) as metrics,
            Connection(server.settings("streams"), name="streams", inbox_prefix=inbox("streams")) as keeper,
            Connection(settings, name="gw1", inbox_prefix=inbox("gw1")) as gw1,
        ):
            js = (await metrics.wait_connected()).jetstream()
            owner = (await keeper.wait_connected()).jetstream()
            await owner.add_stream(before_heartbeats_had_a_stream())
            pull = await js.pull_subscribe("warren.v1.telemetry.>", durable="metrics", stream="TELEMETRY")
            heartbeats = ConsumerConfig(
                name="metrics-report",
                durable_name="metrics-report",
                filter_subject="warren.v1.telemetry.*.presence",
                inactive_threshold=60.0,
            )  # as the registry had: its filter has nothing in TELEMETRY any more (under a name that our user may make)
            await js.add_consumer("TELEMETRY", heartbeats)
            agent = (await gw1.wait_connected()).jetstream()
            for kind in ("presence", "report"):
                await agent.publish(subjects.telemetry("gw1", kind), b"old")
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(declare(owner, STREAMS["PRESENCE"]))  # waits for its subjects
                group.create_task(declare(owner, STREAMS["TELEMETRY"]))
            stored = [await agent.publish(subjects.telemetry("gw1", kind), b"new") for kind in ("presence", "report")]
            assert [ack.stream for ack in stored] == ["PRESENCE", "TELEMETRY"]
            held = [(message.subject.rsplit(".", 1)[1], message.data) for message in await pull.fetch(3, timeout=60)]
            assert held == [("presence", b"old"), ("report", b"old"), ("report", b"new")]
            config = (await js.stream_info("TELEMETRY")).config
            assert (config.max_msgs_per_subject, config.max_msg_size) == (512, 131_072)


async def test_a_stream_that_cannot_be_brought_up_to_date_stays_as_it_is(bus: Bus) -> None:
    js = bus.live.client("streams").jetstream()
    spec = STREAMS["TELEMETRY"]
    with structlog.testing.capture_logs() as logged:
        await declare(js, spec, replicas=3)  # of one server: refused
    assert [(line["event"], line["stream"]) for line in logged] == [("bus.stream_not_updated", "TELEMETRY")]
    assert (await js.stream_info(spec.name)).config.num_replicas == 1
    ack = await (await bus.agent("gw1")).jetstream().publish(subjects.telemetry("gw1", "report"), b"{}")
    assert ack.stream == "TELEMETRY"


async def test_one_peer_has_a_bounded_part_of_the_store(bus: Bus) -> None:
    agent = await bus.agent("gw1")
    other = await bus.agent("gw2")
    await other.jetstream().publish(subjects.telemetry("gw2", "report"), b"{}")
    for kind, size in (("presence", MAX_PRESENCE), *((kind, MAX_TELEMETRY) for kind in STORED_KINDS)):
        with pytest.raises(BadRequestError, match="exceeds maximum"):
            await agent.jetstream().publish(subjects.telemetry("gw1", kind), b"x" * (size + 1))
    for number in range(600):
        await agent.publish(subjects.telemetry("gw1", "report"), b"%d" % number)
        await agent.publish(subjects.telemetry("gw1", "presence"), b"%d" % number)
    await agent.jetstream().publish(subjects.telemetry("gw1", "report"), b"last")
    js = bus.live.client("metrics").jetstream()
    for stream, expected in (("TELEMETRY", {"gw1": 512, "gw2": 1}), ("PRESENCE", {"gw1": 1})):
        state = (await js.stream_info(stream, subjects_filter=">")).state
        held = {subject.split(".")[3]: count for subject, count in (state.subjects or {}).items()}
        assert held == expected
