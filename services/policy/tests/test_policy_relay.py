import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest

from warren_contracts.commands import ApplyPolicies
from warren_contracts.policy import Policy
from warren_policy.domain.revisions import plan_apply
from warren_policy.errors import StoreBehindStreamError
from warren_policy.ports import Commit, Outbox, OutboxSet, RevisionEvent
from warren_policy.relay import PolicyRelay
from warren_service.restore_guard import RestoreGuard
from warren_testkit.policy import MemoryPolicies, MemoryPublisher
from warren_testkit.waiting import eventually

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def commit(store: MemoryPolicies, priority: int, reader: str = "tag=hub") -> None:
    policy = Policy.model_validate(
        {"id": "labs", "priority": priority, "topology": {"kind": "mesh", "members": [reader]}}
    )
    state = await store.snapshot()
    change = plan_apply(state, ApplyPolicies(policies=(policy,)))
    sets = (OutboxSet(reader, f"set-{priority}", b"%d" % priority),)
    events = (RevisionEvent(f"event.{priority}", "type", f"event-{priority}", b"{}"),)
    outbox = Outbox(state.epoch, change.revision, START, "", sets, events)
    await store.commit(Commit((state.epoch, state.revision), "apply", "op", "", change, outbox))


async def is_drained(store: MemoryPolicies) -> bool:
    return await store.pending() == 0


@asynccontextmanager
async def running(store: MemoryPolicies, publisher: MemoryPublisher) -> AsyncIterator[PolicyRelay]:
    relay = PolicyRelay(store, store, publisher, RestoreGuard("POLICY"), now=lambda: START)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_what_was_stored_before_the_start_is_published_in_order_sets_before_events() -> None:
    store, publisher = MemoryPolicies(), MemoryPublisher()
    for priority in (1, 2, 3):
        await commit(store, priority)
    async with running(store, publisher):
        await eventually(partial(is_drained, store))
    assert [revision for revision, _, _ in publisher.sets] == [1, 2, 3]
    assert len(publisher.events) == 3


async def test_a_commit_wakes_the_relay() -> None:
    store, publisher = MemoryPolicies(), MemoryPublisher()
    async with running(store, publisher) as relay:
        await commit(store, 1)
        relay.wake()
        await eventually(lambda: len(publisher.events) == 1)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_failed_try_is_repeated_and_nothing_overtakes_it(moment: str) -> None:
    store, publisher = MemoryPolicies(), MemoryPublisher()
    setattr(publisher, f"failures_{moment}", 3)
    await commit(store, 1)
    await commit(store, 2)
    async with running(store, publisher) as relay:
        await eventually(lambda: len(publisher.events) == 2)
        await eventually(lambda: relay.blocked_reason == "")
    assert [revision for revision, _, _ in publisher.sets] == [1, 2]  # each once


async def test_a_held_queue_is_looked_at_again() -> None:
    store, publisher = MemoryPolicies(), MemoryPublisher()
    await commit(store, 1)
    async with store.next(), running(store, publisher) as relay:
        await eventually(lambda: not relay._work.is_set())
        assert publisher.sets == []
    async with running(store, publisher):
        await eventually(lambda: len(publisher.sets) == 1)


async def test_a_stream_that_lost_its_storage_is_made_again_from_what_was_published() -> None:
    store, publisher = MemoryPolicies(), MemoryPublisher()
    await commit(store, 1, "tag=a")
    await commit(store, 2, "tag=b")
    async with running(store, publisher) as relay:
        await eventually(lambda: len(publisher.events) == 2)
        publisher.newest.clear()
        publisher.sets.clear()
        relay.bus_returned()
        await eventually(lambda: len(publisher.sets) == 2)
    assert [(revision, reader) for revision, reader, _ in publisher.sets] == [(1, "tag=a"), (2, "tag=b")]
    assert len(publisher.events) == 2  # events are not published again


class SilentPublisher(MemoryPublisher):
    """Waits for an acknowledgement that never comes, once."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()

    async def publish_sets(self, outbox: Outbox) -> None:
        if not self.waiting.is_set():
            self.waiting.set()
            await asyncio.Event().wait()
        await super().publish_sets(outbox)


async def test_a_try_that_waits_for_a_lost_bus_is_given_up_at_once_and_repeated() -> None:
    store, publisher = MemoryPolicies(), SilentPublisher()
    await commit(store, 1)
    async with running(store, publisher) as relay:
        await publisher.waiting.wait()
        relay.bus_lost()
        await eventually(partial(is_drained, store))
    assert len(publisher.sets) == 1


class AheadPublisher(MemoryPublisher):
    async def publish_sets(self, outbox: Outbox) -> None:
        raise StoreBehindStreamError("tag=hub is at (1, 9) on the bus, ahead of (1, 1) in the database")


async def test_a_stream_that_is_ahead_of_the_database_stops_the_relay_with_a_reason() -> None:
    store, publisher = MemoryPolicies(), AheadPublisher()
    await commit(store, 1)
    async with running(store, publisher) as relay:
        await eventually(lambda: "ahead of" in relay.blocked_reason)
    assert await store.pending() == 1
