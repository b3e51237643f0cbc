"""What the policy service reads of its streams for operators and other systems, on a real server."""

import json
from collections.abc import Sequence

import pytest
from nats.js import JetStreamContext

from warren_contracts import subjects
from warren_contracts.bus_queries import ReadEvents
from warren_contracts.commands import Role
from warren_policy.adapters.published import NatsPublishedStreams
from warren_testkit.bus.accounts import Bus
from warren_testkit.waiting import eventually
from warren_trust.signing import Verifier, from_document


async def publish(js: JetStreamContext, kind: str, names: Sequence[object], text: str = "") -> None:
    for name in names:
        headers = {"ce-specversion": "1.0", "ce-type": f"warren.{kind}.v1", "ce-id": f"{kind}-{name}"}
        await js.publish(
            subjects.event("policy", kind, str(name)), json.dumps({"name": name}).encode(), headers=headers
        )


@pytest.fixture
def published(bus: Bus) -> NatsPublishedStreams:
    return NatsPublishedStreams(lambda: bus.live.client("policy"))


@pytest.fixture
def js(bus: Bus) -> JetStreamContext:
    return bus.live.client("policy").jetstream()


async def test_pages_of_events_follow_each_other_without_a_gap(
    published: NatsPublishedStreams, js: JetStreamContext
) -> None:
    await publish(js, "changed", range(7))
    start = (await published.events(ReadEvents())).next_after - 7
    names, after, more = [], start, True
    while more:
        page = await published.events(ReadEvents(after=after, limit=3))
        names += [record.event["data"]["name"] for record in page.events]
        assert [record.sequence for record in page.events] == [record.event["sequence"] for record in page.events]
        after, more = page.next_after, page.more
    assert names == list(range(7))
    assert (await published.events(ReadEvents(after=after))).events == ()


async def test_events_of_one_kind_and_their_attributes(published: NatsPublishedStreams, js: JetStreamContext) -> None:
    await publish(js, "changed", ["a"])
    await publish(js, "other", ["b"])
    await publish(js, "changed", ["c"])
    page = await published.events(ReadEvents(after=0, kind="changed"))
    assert [record.event["id"] for record in page.events] == ["changed-a", "changed-c"]
    assert page.events[0].event["subject"] == subjects.event("policy", "changed", "a")
    assert page.next_after == (await published.events(ReadEvents())).next_after


async def test_large_events_are_split_over_pages(published: NatsPublishedStreams, js: JetStreamContext) -> None:
    await publish(js, "changed", range(3), "x" * 250_000)
    found, after, more = 0, 0, True
    while more:
        page = await published.events(ReadEvents(after=after))
        found, after, more = found + len(page.events), page.next_after, page.more
        assert len(page.model_dump_json()) < 900_000
    assert found == 3


async def test_expired_events_and_a_position_of_a_former_stream_are_said(
    bus: Bus, published: NatsPublishedStreams, js: JetStreamContext
) -> None:
    await publish(js, "changed", range(3))
    newest = (await published.events(ReadEvents())).next_after
    ahead = await published.events(ReadEvents(after=newest + 100))
    assert (ahead.missed, ahead.next_after, ahead.more) == (True, 0, True)
    assert not (await published.events(ReadEvents(after=0))).missed
    config = (await js.stream_info(subjects.EVENT_STREAM)).config
    keeper = bus.live.client("streams").jetstream()
    await keeper.update_stream(config.evolve(max_msgs=1))
    page = await published.events(ReadEvents(after=0))
    assert page.missed
    assert [record.sequence for record in page.events] == [newest]


async def test_the_published_set_of_a_reader_is_signed_as_it_was_published(
    bus: Bus, published: NatsPublishedStreams
) -> None:
    assert await published.policy_set("tag=hub") is None
    await bus.live.publish(*bus.live.fleet.assign({"tag=hub": ("p1",)}))
    found = await published.policy_set("tag=hub")
    assert found is not None
    Verifier(bus.live.fleet.trust).verify(from_document(found))


async def test_what_operators_receive_live_is_what_was_stored(bus: Bus, js: JetStreamContext) -> None:
    viewer = await bus.operator("viewer", Role.VIEWER)
    received: list[tuple[str, str]] = []

    async def note(message: object) -> None:
        headers = message.headers  # type: ignore[attr-defined]  # nats-py's Msg
        received.append((headers["Nats-Subject"], headers["Nats-Sequence"]))

    for kind in ("event", "policy"):
        await viewer.subscribe(subjects.live(f"{subjects.VERSION}.{kind}.>"), cb=note)
    await viewer.flush()
    await publish(js, "changed", ["a"])
    await bus.live.publish(*bus.live.fleet.assign({"tag=hub": ("p1",)}))
    await eventually(lambda: len(received) >= 2, what="an event and a policy set")
    info = (await js.stream_info(subjects.EVENT_STREAM)).state
    assert (subjects.event("policy", "changed", "a"), str(info.last_seq)) in received
    assert subjects.policy("tag=hub") in {subject for subject, _ in received}
    await bus.refuses_subscribe(viewer, "op.viewer", subjects.live("warren.v1.secret.>"), "warren.v1.event.>")
