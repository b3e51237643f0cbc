"""The same suite on the store in memory and on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from warren_contracts.commands import ApplyPolicies
from warren_contracts.policy import Policy
from warren_policy.adapters.postgres import PostgresOutbox, PostgresPolicies, make_store
from warren_policy.domain import audit
from warren_policy.domain.audit import document_hash
from warren_policy.domain.revisions import PolicySnapshot, RevisionChange, plan_apply, plan_delete
from warren_policy.errors import AuditChainBrokenError, OutboxBusyError, RevisionMovedError
from warren_policy.ports import Commit, Outbox, OutboxQueue, OutboxSet, PastStore, PolicyStore, RevisionEvent
from warren_store import PostgresUnavailableError
from warren_store.migrations import load_migrations, migrate
from warren_testkit.policy import MemoryPolicies
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_testkit.waiting import eventually

COLLATION = """
    SELECT collname FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE attrelid = 'policy.policy'::regclass AND attname = 'id'
"""
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class Pair:
    def __init__(self, policies: PolicyStore, queue: OutboxQueue, past: PastStore) -> None:
        self.policies = policies
        self.queue = queue
        self.past = past


@asynccontextmanager
async def on_postgres(server: PostgresServer) -> AsyncIterator[Pair]:
    async with make_store(server.dsn()) as store:
        policies = PostgresPolicies(store)
        yield Pair(policies, PostgresOutbox(store), policies)


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    if request.param == "memory":
        memory = MemoryPolicies()
        yield Pair(memory, memory, memory)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    server.sql("DROP SCHEMA IF EXISTS policy CASCADE")
    async with on_postgres(server) as pair:
        yield pair


def policy(id_: str, **fields: Any) -> Policy:
    given: dict[str, Any] = {"id": id_, "topology": {"kind": "mesh", "members": ["tag=hub"]}, **fields}
    return Policy.model_validate(given)


def commit_of(state: PolicySnapshot, change: RevisionChange, actor: str = "op") -> Commit:
    sets = (OutboxSet("tag=hub", str(uuid4()), b'{"revision":%d}' % change.revision),)
    events = tuple(RevisionEvent(f"subject.{id_}", "type", str(uuid4()), b"{}") for id_ in change.changed)
    at = START + timedelta(seconds=change.revision)
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    outbox = Outbox(state.epoch, change.revision, at, trace, sets, events)
    return Commit((state.epoch, state.revision), "apply", actor, "a" * 32, change, outbox)


async def store_policies(stores: Pair, *policies: Policy) -> Commit:
    state = await stores.policies.snapshot()
    commit = commit_of(state, plan_apply(state, ApplyPolicies(policies=policies)))
    await stores.policies.commit(commit)
    return commit


async def test_a_new_store_is_empty(stores: Pair) -> None:
    state = await stores.policies.snapshot()
    assert (state.epoch, state.revision, dict(state.policies)) == (1, 0, {})
    assert await stores.policies.get("labs") is None
    assert await stores.queue.pending() == 0
    await eventually(stores.policies.ready)


async def test_a_commit_is_read_back_as_it_was_stored(stores: Pair) -> None:
    commit = await store_policies(stores, policy("labs", name="Zürich\x00"), policy("branches"))
    state = await stores.policies.snapshot()
    assert state.revision == 1
    assert dict(state.policies) == dict(commit.change.after)
    stored = await stores.policies.get("labs")
    assert stored is not None
    assert (stored.policy, stored.revision) == (commit.change.after["labs"].policy, 1)
    assert (stored.actor, stored.updated_at) == ("op", commit.outbox.at)


async def test_a_snapshot_that_still_stands_is_not_read_again(stores: Pair) -> None:
    await store_policies(stores, policy("labs"))
    state = await stores.policies.snapshot()
    assert await stores.policies.snapshot(state) is state
    await store_policies(stores, policy("labs", priority=1))
    assert (await stores.policies.snapshot(state)).revision == 2


async def test_a_listing_is_paged_by_id(stores: Pair) -> None:
    await store_policies(stores, *(policy(f"p{n}") for n in range(5)))
    first = await stores.policies.page("", 3)
    assert [item.policy.id for item in first] == ["p0", "p1", "p2"]
    assert [item.policy.id for item in await stores.policies.page("p2", 3)] == ["p3", "p4"]


async def test_pages_are_in_the_order_of_code_points(stores: Pair) -> None:
    ids = ("a-b", "a_b", "ab", "a0", "a-", "a", "z-a", "za")
    await store_policies(stores, *(policy(id_) for id_ in ids))
    seen: list[str] = []
    while page := await stores.policies.page(seen[-1] if seen else "", 3):
        seen += [item.policy.id for item in page]
    assert seen == sorted(ids)


async def test_the_order_of_pages_is_no_matter_of_the_databases_locale(postgres: PostgresServer) -> None:
    async with on_postgres(postgres) as pair:
        await pair.policies.page("", 1)
    assert postgres.sql(COLLATION) == "C"


async def test_versions_of_a_store_of_the_first_release_are_taken_over(postgres: PostgresServer) -> None:
    postgres.sql("DROP SCHEMA IF EXISTS policy CASCADE")
    connection = await asyncpg.connect(postgres.dsn())
    try:
        await migrate(connection, "policy", load_migrations("warren_policy")[:1])
        for revision, version in ((1, 1), (2, 2), (3, 2)):
            values = "VALUES ($1, 1, now(), 'op', '')"
            await connection.execute(
                f"INSERT INTO policy.revision (revision, epoch, at, actor, traceparent) {values}", revision
            )
            await connection.execute(
                "INSERT INTO policy.policy_history (revision, policy, version, action) VALUES ($1, 'labs', $2, $3)",
                revision, version, "deleted" if revision == 3 else "updated",
            )  # fmt: skip
    finally:
        await connection.close()
    async with on_postgres(postgres) as pair:
        assert dict((await pair.policies.snapshot()).versions) == {"labs": 2}


async def test_a_deleted_policy_keeps_its_versions(stores: Pair) -> None:
    await store_policies(stores, policy("labs"))
    await store_policies(stores, policy("labs", priority=1))
    state = await stores.policies.snapshot()
    await stores.policies.commit(commit_of(state, plan_delete(state, ("labs",))))
    state = await stores.policies.snapshot()
    assert (dict(state.policies), state.versions["labs"]) == ({}, 2)


async def test_the_history_has_every_version_the_newest_first(stores: Pair) -> None:
    await store_policies(stores, policy("a", priority=1), policy("b"))
    await store_policies(stores, policy("a", priority=2))
    state = await stores.policies.snapshot()
    await stores.policies.commit(commit_of(state, plan_delete(state, ["a"])))
    found = await stores.policies.history("a", 2**63 - 1, 10)
    assert [(it.revision, it.version, it.action, it.actor) for it in found] == [
        (3, 2, "deleted", "op"),
        (2, 2, "updated", "op"),
        (1, 1, "created", "op"),
    ]
    assert [it.policy.priority if it.policy else None for it in found] == [None, 2, 1]
    assert found[2].at == START + timedelta(seconds=1)
    assert [it.revision for it in await stores.policies.history("a", 3, 1)] == [2]
    assert await stores.policies.history("nothing", 9, 9) == ()


async def test_deleted_policies_are_those_that_are_not_stored_any_more(stores: Pair) -> None:
    await store_policies(stores, *(policy(name) for name in ("_x", "a", "b", "kept")))
    await store_policies(stores, policy("a", priority=2))
    for names in (["a", "b"], ["_x"]):
        state = await stores.policies.snapshot()
        await stores.policies.commit(commit_of(state, plan_delete(state, names)))
    await store_policies(stores, policy("b", priority=3))  # created again
    found = await stores.past.deleted("", 10)
    assert [(it.id, it.version, it.revision, it.actor) for it in found] == [("_x", 1, 4, "op"), ("a", 2, 3, "op")]
    assert found[1].at == START + timedelta(seconds=3)
    assert [it.id for it in await stores.past.deleted("", 1)] == ["_x"]
    assert [it.id for it in await stores.past.deleted("_x", 10)] == ["a"]


async def test_a_commit_from_an_old_base_is_refused_and_leaves_nothing(stores: Pair) -> None:
    old = await stores.policies.snapshot()
    await store_policies(stores, policy("labs"))
    with pytest.raises(RevisionMovedError):
        await stores.policies.commit(commit_of(old, plan_apply(old, ApplyPolicies(policies=(policy("branches"),)))))
    assert await stores.policies.get("branches") is None
    assert (await stores.queue.pending(), len((await stores.policies.audit())[0])) == (1, 1)


async def test_of_many_concurrent_commits_one_a_revision_wins(stores: Pair) -> None:
    async def try_to_store(name: str) -> bool:
        try:
            await store_policies(stores, policy(name))
        except RevisionMovedError:
            return False
        return True

    won = await asyncio.gather(*(try_to_store(f"p{n}") for n in range(12)))
    state = await stores.policies.snapshot()
    assert sum(won) == state.revision == len(state.policies)
    assert state.revision >= 1


async def test_the_audit_log_is_a_chain_that_names_every_document(stores: Pair) -> None:
    await store_policies(stores, policy("labs"))
    commit = await store_policies(stores, policy("labs", priority=1))
    rows, head = await stores.policies.audit()
    assert audit.verify(rows, head) == 2
    assert document_hash(commit.change.after["labs"].policy.model_dump_json()) in rows[1].entry.detail
    assert (rows[1].entry.actor, rows[1].entry.revision, rows[1].entry.trace_id) == ("op", 2, "a" * 32)


async def test_the_queue_gives_revisions_in_order_until_they_are_done(stores: Pair) -> None:
    first = await store_policies(stores, policy("labs"))
    second = await store_policies(stores, policy("labs", priority=1))
    for commit in (first, second):
        async with stores.queue.next() as ticket:
            assert ticket is not None
            assert ticket.outbox == commit.outbox
            await ticket.done()
    async with stores.queue.next() as ticket:
        assert ticket is None
    assert await stores.queue.pending() == 0
    assert await stores.queue.published() == {"tag=hub": (1, 2)}
    kept = await stores.queue.published_set("tag=hub")
    assert (kept.sets, kept.revision, kept.at, kept.traceparent) == (
        second.outbox.sets, 2, second.outbox.at, second.outbox.traceparent,
    )  # fmt: skip


async def fail_in_the_middle(stores: Pair) -> None:
    async with stores.queue.next() as ticket:
        assert ticket is not None
        await ticket.done()
        raise ZeroDivisionError


async def test_in_a_new_epoch_waiting_sets_are_void_and_their_events_are_not(stores: Pair) -> None:
    await store_policies(stores, policy("labs"))
    await store_policies(stores, policy("labs", priority=1))
    state = await stores.policies.snapshot()
    sets = (OutboxSet("tag=hub", "new", b"{}"),)
    outbox = Outbox(7, 3, START, "", sets, ())
    unchanged = RevisionChange(3, state.policies, state.policies)
    with pytest.raises(RevisionMovedError):
        await stores.policies.commit(Commit((1, 1), "epoch", "op", "", unchanged, outbox))
    await stores.policies.commit(Commit((1, 2), "epoch", "op", "", unchanged, outbox))
    assert await stores.policies.version() == (7, 3)
    delivered = []
    for _ in range(3):
        async with stores.queue.next() as ticket:
            assert ticket is not None
            delivered.append((ticket.outbox.epoch, len(ticket.outbox.sets), len(ticket.outbox.events)))
            await ticket.done()
    assert delivered == [(1, 0, 1), (1, 0, 1), (7, 1, 0)]
    assert await stores.queue.published() == {"tag=hub": (7, 3)}
    rows, head = await stores.policies.audit()
    assert audit.verify(rows, head) == 3
    assert (rows[-1].entry.action, rows[-1].entry.epoch) == ("epoch", 7)
    assert (await store_policies(stores, policy("more"))).outbox.epoch == 7


async def test_a_failed_try_leaves_the_revision_in_the_queue(postgres: PostgresServer) -> None:
    postgres.sql("DROP SCHEMA IF EXISTS policy CASCADE")
    async with on_postgres(postgres) as stores:
        commit = await store_policies(stores, policy("labs"))
        with pytest.raises(ZeroDivisionError):
            await fail_in_the_middle(stores)
        assert await stores.queue.pending() == 1
        async with stores.queue.next() as ticket:
            assert ticket is not None
            assert ticket.outbox == commit.outbox


async def test_a_second_relay_finds_the_queue_busy(stores: Pair) -> None:
    await store_policies(stores, policy("labs"))
    async with stores.queue.next():
        with pytest.raises(OutboxBusyError):
            async with stores.queue.next():
                pass


async def test_policies_of_a_writer_that_spelled_out_empty_lists_are_read(postgres: PostgresServer) -> None:
    postgres.sql("DROP SCHEMA IF EXISTS policy CASCADE")
    async with on_postgres(postgres) as stores:
        await store_policies(stores, policy("labs"))
        postgres.sql(
            """UPDATE policy.policy SET document = left(document, -1) || ', "applies_to": [], "tunnels": []}'"""
        )
        stored = await stores.policies.get("labs")
        assert stored is not None
        assert (stored.policy.applies_to, stored.policy.tunnels) == ((), ())
        assert "labs" in (await stores.policies.snapshot()).policies


async def test_a_row_that_was_changed_by_hand_is_found(postgres: PostgresServer) -> None:
    postgres.sql("DROP SCHEMA IF EXISTS policy CASCADE")
    async with on_postgres(postgres) as stores:
        for priority in range(3):
            await store_policies(stores, policy("labs", priority=priority))
        postgres.sql("SET session_replication_role = replica; UPDATE policy.audit SET actor = 'nobody' WHERE seq = 2")
        with pytest.raises(AuditChainBrokenError, match="row 2"):
            audit.verify(*await stores.policies.audit())


async def test_policies_are_served_again_after_postgresql_was_unavailable() -> None:
    with postgres_server() as server:
        async with on_postgres(server) as stores:
            await store_policies(stores, policy("labs"))
            server.kill()
            with pytest.raises(PostgresUnavailableError):
                await stores.policies.snapshot()
            assert not await stores.policies.ready()
            server.start()
            assert (await stores.policies.snapshot()).revision == 1
