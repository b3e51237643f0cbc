"""The publisher and the relay of the policy service on a real nats-server and a real PostgreSQL."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import pytest
from nats.errors import Error as NatsError

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.errors import NotConnectedError, NotStoredError
from warren_contracts import subjects
from warren_contracts.commands import ApplyPolicies
from warren_contracts.documents import SignerRole, TrustDocument
from warren_contracts.policy import Policy, PolicySet
from warren_policy.adapters.postgres import PostgresOutbox, PostgresPolicies, make_store
from warren_policy.adapters.stream import StreamPublisher
from warren_policy.domain.derived import DerivedSets
from warren_policy.errors import NotPublishedError, StoreBehindStreamError
from warren_policy.ports import CallContext, FleetRecords, Outbox, OutboxSet
from warren_policy.relay import PolicyRelay
from warren_policy.service import PolicyService
from warren_service import guarded_publisher, streams
from warren_service.guarded_publisher import GuardedPublisher
from warren_service.restore_guard import RestoreGuard
from warren_testkit.bus import RealServer
from warren_testkit.intent import directory, record
from warren_testkit.policy import MemoryDirectory
from warren_testkit.postgres import PostgresServer
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, read_seed
from warren_trust.signing import Signer, Verifier, parse_signed

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
CALLER = CallContext("ann", TRACE, "a" * 32)


@pytest.fixture
async def link(bus: RealServer) -> AsyncIterator[Connection]:
    """The policy service's own connection; its streams are declared."""
    async with Connection(bus.settings("policy"), name="test", inbox_prefix=inbox("policy")) as connection:
        client = await connection.wait_connected()
        for spec in (streams.POLICY, streams.EVENT):
            await streams.wait_for(client.jetstream(), spec.name)
        yield connection


def signer(bus: RealServer) -> Signer:
    return Signer(read_seed(bus.folder / "keys" / "policy-signing.seed", KeyKind.SIGNING), SignerRole.POLICY)


def publisher(bus: RealServer, link: Connection) -> StreamPublisher:
    return StreamPublisher(lambda: link.client, signer(bus))


IDS = count()


def outbox(revision: int, *readers: str, epoch: int = 1) -> Outbox:
    sets = tuple(
        OutboxSet(reader, f"id-{next(IDS)}", b'{"reader":"%s","revision":%d}' % (reader.encode(), revision))
        for reader in readers
    )
    return Outbox(epoch, revision, START, TRACE, sets, ())


async def stored(link: Connection, reader: str) -> Any:
    subject = f"$JS.API.DIRECT.GET.POLICY.{subjects.policy(reader)}"
    return await link.client.request(subject, b"", timeout=20)


async def last_sequence(link: Connection) -> int:
    info = await link.client.jetstream().stream_info("POLICY")
    return info.state.last_seq


async def test_a_set_is_stored_signed_with_its_trace(bus: RealServer, link: Connection) -> None:
    await publisher(bus, link).publish_sets(outbox(1, "tag=a", "tag=b"))
    message = await stored(link, "tag=a")
    public = signer(bus).public_key
    trust = TrustDocument(epoch=1, revision=1, policy=public, registry=public)
    Verifier(trust).verify(parse_signed(subjects.policy("tag=a"), message.headers, message.data))
    assert message.headers["traceparent"] == TRACE
    assert message.headers["ce-type"] == "warren.policy.published.v1"
    assert message.headers["ce-id"] == message.headers["Nats-Msg-Id"]
    assert message.headers["Nats-Batch-Id"]


@pytest.mark.parametrize("readers", [("tag=a",), ("tag=a", "tag=b", "tag=c")])
async def test_a_repeat_stores_nothing(bus: RealServer, link: Connection, readers: tuple[str, ...]) -> None:
    box = outbox(1, *readers)
    await publisher(bus, link).publish_sets(box)
    before = await last_sequence(link)
    same = publisher(bus, link)  # after a restart nothing is remembered
    await same.publish_sets(box)
    await same.publish_sets(outbox(2, *readers))
    await same.publish_sets(outbox(3, *readers))  # by the remembered sequences
    assert (before, await last_sequence(link)) == (len(readers), 3 * len(readers))


async def test_a_server_that_does_not_answer_is_reported_with_where_to_look(
    bus: RealServer, link: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded_publisher, "READ_TIMEOUT", 0.1)
    bus.freeze()
    try:
        with pytest.raises(NotPublishedError, match="could not write to its disk"):
            await publisher(bus, link).publish_sets(outbox(1, "tag=a"))
    finally:
        bus.thaw()


class LostAcknowledgements(GuardedPublisher):
    """The batch is stored, and the first acknowledgements are lost."""

    lost = 2

    async def _send(self, *arguments: Any) -> dict[str, int]:
        sequences = await super()._send(*arguments)
        if self.lost:
            self.lost -= 1
            raise NotStoredError("the acknowledgement was lost")
        return sequences


@pytest.mark.parametrize("readers", [("tag=a",), ("tag=a", "tag=b")])
async def test_a_lost_acknowledgement_is_found_to_be_done(
    bus: RealServer, link: Connection, readers: tuple[str, ...]
) -> None:
    losing = publisher(bus, link)
    losing._sets = LostAcknowledgements(lambda: link.client, "POLICY")
    await losing.publish_sets(outbox(1, *readers))
    await losing.publish_sets(outbox(2, *readers))
    assert await last_sequence(link) == 2 * len(readers)
    for reader in readers:
        assert (await stored(link, reader)).headers["Warren-Revision"] == "2"


async def test_another_relay_is_not_overwritten(bus: RealServer, link: Connection) -> None:
    mine, theirs = publisher(bus, link), publisher(bus, link)
    await mine.publish_sets(outbox(1, "tag=a", "tag=b"))
    await theirs.publish_sets(outbox(5, "tag=a", "tag=b"))
    with pytest.raises(StoreBehindStreamError, match=r"\(1, 5\) on the bus, ahead of \(1, 2\)"):
        await mine.publish_sets(outbox(2, "tag=a", "tag=b"))
    assert (await stored(link, "tag=a")).headers["Warren-Revision"] == "5"


async def test_another_document_of_the_same_revision_is_never_published(bus: RealServer, link: Connection) -> None:
    await publisher(bus, link).publish_sets(outbox(1, "tag=a"))
    forged = Outbox(1, 1, START, TRACE, (OutboxSet("tag=a", "other", b"{}"),), ())
    with pytest.raises(StoreBehindStreamError, match="another document"):
        await publisher(bus, link).publish_sets(forged)


async def test_a_revision_above_a_thousand_readers_goes_in_several_batches(bus: RealServer, link: Connection) -> None:
    readers = [f"peer=p{n:04}" for n in range(1_500)]
    box = outbox(1, *readers)
    await publisher(bus, link).publish_sets(box)
    assert await last_sequence(link) == 1_500
    first, last = await stored(link, readers[0]), await stored(link, readers[-1])
    assert first.headers["Nats-Batch-Id"] != last.headers["Nats-Batch-Id"]
    await publisher(bus, link).publish_sets(box)
    assert await last_sequence(link) == 1_500


async def test_without_a_server_an_attempt_fails_with_its_reason(bus: RealServer, link: Connection) -> None:
    await bus.stop()
    await eventually(lambda: not link.is_connected)
    with pytest.raises(NotPublishedError, match="revision 1"):
        await publisher(bus, link).publish_sets(outbox(1, "tag=a"))


until = partial(eventually, ignoring=(NatsError, NotConnectedError))


class World:
    """The policy service without its RPC: commits are made directly, also while the bus is unavailable."""

    def __init__(self, bus: RealServer, link: Connection, store: Any) -> None:
        fleet = directory(record("hub-1", 1, "hub"), record("gw1", 2, "branch"))
        self.link = link
        self.queue = PostgresOutbox(store)
        self.publisher = publisher(bus, link)
        restore_guard = RestoreGuard("POLICY")
        restore_guard.compare((), (1, 0))
        self.relay = PolicyRelay(
            PostgresPolicies(store), self.queue, self.publisher, restore_guard, now=lambda: datetime.now(UTC)
        )
        self.service = PolicyService(
            PostgresPolicies(store), MemoryDirectory(FleetRecords(fleet, frozenset({"hub", "branch"}))),
            DerivedSets(), now=lambda: datetime.now(UTC), new_id=lambda: f"world-{next(IDS)}", committed=self.relay.wake,
            restore_guard=restore_guard,
        )  # fmt: skip

    async def apply(self, priority: int) -> int:
        topology = {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]}
        policy = Policy.model_validate({"id": "branches", "priority": priority, "topology": topology})
        return (await self.service.apply(ApplyPolicies(policies=(policy,)), CALLER)).revision

    async def returned(self) -> None:
        for spec in (streams.POLICY, streams.EVENT):
            await streams.wait_for(self.link.client.jetstream(), spec.name)
        self.publisher.forget()
        self.relay.bus_returned()

    async def drained(self) -> None:
        async def empty() -> bool:
            return await self.queue.pending() == 0

        await until(empty)


@asynccontextmanager
async def world(bus: RealServer, link: Connection, database: PostgresServer) -> AsyncIterator[World]:
    database.sql("DROP SCHEMA IF EXISTS policy CASCADE")
    async with make_store(database.dsn()) as store:
        made = World(bus, link, store)
        link.on_connected(made.returned)
        link.on_disconnected(made.relay.bus_lost)
        task = asyncio.create_task(made.relay.run())
        try:
            yield made
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.mark.parametrize("ending", ["stop", "kill"])
async def test_what_is_stored_while_the_bus_is_unavailable_is_published_in_order_when_it_returns(
    bus: RealServer, link: Connection, database: PostgresServer, ending: str
) -> None:
    async with world(bus, link, database) as made:
        await made.apply(1)
        await made.drained()
        await getattr(bus, ending)()
        await eventually(lambda: not link.is_connected)
        for priority in (2, 3, 4):
            await made.apply(priority)
        await eventually(lambda: made.relay.blocked_reason != "")
        assert await made.queue.pending() == 3
        await bus.start()
        await made.drained()
        message = await stored(link, "tag=hub")
        assert PolicySet.model_validate_json(message.data).revision == 4
        assert await last_sequence(link) == 8  # four revisions for two readers: none twice, none skipped
        await eventually(lambda: made.relay.blocked_reason == "")


async def test_the_bus_killed_in_the_middle_of_many_changes_loses_none(
    bus: RealServer, link: Connection, database: PostgresServer
) -> None:
    async with world(bus, link, database) as made:

        async def change() -> None:
            for priority in range(1, 31):
                await made.apply(priority)

        changing = asyncio.create_task(change())
        for _ in range(2):
            before = await until(
                lambda: last_sequence(link)
            )  # the client may not have noticed the end of the server yet

            async def moved(before: int = before) -> bool:
                return await last_sequence(link) > before or changing.done()

            await until(moved, pause_s=0.005)
            await bus.kill()
            await bus.start()
        await changing
        await made.drained()
        message = await stored(link, "tag=branch")
        assert PolicySet.model_validate_json(message.data).revision == 30
        assert await last_sequence(link) == 60


async def test_a_bus_that_lost_its_storage_is_filled_again(
    bus: RealServer, link: Connection, database: PostgresServer
) -> None:
    async with world(bus, link, database) as made:
        await made.apply(1)
        await made.drained()
        await bus.kill()
        shutil.rmtree(bus.folder / "store")
        connects = link.connects
        await bus.start()
        await eventually(lambda: link.connects > connects)

        async def filled() -> bool:
            return bool((await stored(link, "tag=hub")).headers.get("Warren-Revision") == "1")

        await until(filled)
        await made.apply(2)
        await made.drained()
        assert (await stored(link, "tag=branch")).headers["Warren-Revision"] == "2"
