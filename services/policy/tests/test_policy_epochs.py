"""A restored database publishes nothing; a new epoch, which the root alone can announce, publishes everything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.commands import ApplyPolicies, FollowEpoch
from warren_contracts.documents import TRUST_SUBJECT, SignedDocument, SignerRole, TrustDocument
from warren_contracts.policy import MAX_POLICY_SET, Policy, PolicySet, PublishedPolicy
from warren_contracts.problems import ConflictError, ForbiddenError
from warren_intent.relations import readers
from warren_policy.domain.derived import DerivedSets
from warren_policy.domain.sets import every_set
from warren_policy.epochs import EpochFollower
from warren_policy.ports import CallContext, FleetRecords
from warren_policy.relay import PolicyRelay
from warren_policy.service import PolicyService
from warren_service.restore_guard import NotComparedError, RestoredFromBackupError, RestoreGuard
from warren_testkit.intent import directory, record
from warren_testkit.policy import MemoryDirectory, MemoryPolicies, MemoryPublisher
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CALLER = CallContext("op.ann", f"00-{'a' * 32}-{'b' * 16}-01", "a" * 32)
KEYS = {role: KeyPair.generate(KeyKind.SIGNING) for role in SignerRole}
ROOT = KEYS[SignerRole.ROOT].public_base64


def trust(epoch: int, root: KeyPair = KEYS[SignerRole.ROOT]) -> SignedDocument:
    keys = {role.value: KEYS[role].public_base64 for role in (SignerRole.POLICY, SignerRole.REGISTRY)}
    text = TrustDocument(epoch=epoch, revision=1, **keys).model_dump_json()
    return Signer(root, SignerRole.ROOT).document(TRUST_SUBJECT, epoch, 1, text)


def mesh(id_: str = "labs", *members: str, priority: int = 0, enabled: bool = True) -> Policy:
    topology = {"kind": "mesh", "members": members or ("tag=hub",)}
    return Policy.model_validate({"id": id_, "priority": priority, "enabled": enabled, "topology": topology})


class Side:
    """A policy service over a database in memory, on a stream that outlives it."""

    def __init__(self, publisher: MemoryPublisher, store: MemoryPolicies | None = None) -> None:
        self.store, self.publisher, self.restore_guard = (
            store or MemoryPolicies(),
            publisher,
            RestoreGuard("POLICY", 0.01),
        )
        fleet = FleetRecords(
            directory(record("hub-1", 1, "hub"), record("gw1", 2, "branch")), frozenset({"hub", "branch"})
        )
        ids = count()
        self.relay = PolicyRelay(self.store, self.store, publisher, self.restore_guard, now=lambda: START)
        self.service = PolicyService(
            self.store, MemoryDirectory(fleet), DerivedSets(), now=lambda: START, new_id=lambda: f"id-{next(ids)}",
            committed=self.relay.wake, restore_guard=self.restore_guard,
        )  # fmt: skip
        self.epochs = EpochFollower(
            self.store, self.store, self.restore_guard, self.relay, ROOT, now=lambda: START, new_id=lambda: f"id-{next(ids)}",
        )  # fmt: skip

    async def apply(self, *policies: Policy) -> int:
        return (await self.service.apply(ApplyPolicies(policies=policies), CALLER)).revision

    async def follow(self, document: SignedDocument) -> tuple[int, int]:
        followed = await self.epochs.follow(FollowEpoch(trust=document), CALLER)
        return followed.epoch, followed.revision

    async def compared(self) -> None:
        await eventually(lambda: self.restore_guard.newest > (0, 0))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.relay.run())
        try:
            yield
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def published(publisher: MemoryPublisher) -> None:
    """Three revisions, of which a backup from before the last two knows nothing."""
    side = Side(publisher)
    async with side.running():
        await eventually(lambda: not side.restore_guard.blocked_reason(1))
        await side.apply(mesh())
        await side.apply(mesh(priority=1), mesh("branches", "tag=branch"))
        await side.apply(mesh(priority=2))
        await eventually(lambda: publisher.newest.get("tag=hub") == (1, 3))


async def is_drained(store: MemoryPolicies) -> bool:
    return await store.pending() == 0


async def backup() -> MemoryPolicies:
    side = Side(MemoryPublisher())
    side.restore_guard.compare((), (1, 0))
    await side.apply(mesh())
    return side.store


async def test_a_restored_database_publishes_nothing_and_takes_no_changes() -> None:
    publisher = MemoryPublisher()
    await published(publisher)
    sets_before = len(publisher.sets)
    restored = Side(publisher, await backup())
    async with restored.running():
        await restored.compared()
        with pytest.raises(RestoredFromBackupError, match="revision 3, and the database only epoch 1, revision 1"):
            await restored.apply(mesh(priority=9))
        assert "warren epoch advance" in restored.restore_guard.blocked_reason(1)
        assert (await restored.store.version(), len(publisher.sets)) == ((1, 1), sets_before)
        assert restored.relay.blocked_reason == ""  # it is reported once, by the name of the epoch


async def test_a_new_epoch_publishes_every_set_and_empties_those_that_only_the_stream_knows() -> None:
    publisher = MemoryPublisher()
    await published(publisher)
    restored = Side(publisher, await backup())
    async with restored.running():
        await restored.compared()
        assert await restored.follow(trust(2)) == (2, 2)
        await eventually(lambda: publisher.newest == {"tag=hub": (2, 2), "tag=branch": (2, 2)})
        assert await restored.follow(trust(2)) == (2, 2)  # again: nothing happens
        sets = [PolicySet.model_validate_json(payload) for _, _, payload in publisher.sets[-2:]]
        assert {held.reader: len(held.policies) for held in sets} == {"tag=hub": 1, "tag=branch": 0}
        assert {held.batch for held in sets} == {("tag=branch", "tag=hub")}
        publisher.newest["tag=branch"] = (1, 2)  # a set of the epoch before, by whatever means
        await restored.follow(trust(2))
        await eventually(lambda: publisher.newest["tag=branch"] == (2, 2))
        await restored.apply(mesh(priority=9))
        await eventually(lambda: publisher.newest["tag=hub"] == (2, 3))
        await eventually(partial(is_drained, restored.store))
    rows, _ = await restored.store.audit()
    assert [(row.entry.actor, row.entry.action, row.entry.epoch) for row in rows[-2:]] == [
        ("op.ann", "epoch", 2), ("op.ann", "apply", 2),
    ]  # fmt: skip


async def test_an_epoch_that_is_too_low_leaves_the_service_as_it_is() -> None:
    publisher = MemoryPublisher()
    publisher.newest = {"tag=hub": (4, 9)}
    restored = Side(publisher, await backup())
    async with restored.running():
        await restored.compared()
        await restored.follow(trust(4))  # a genuine word of the root, replayed
        with pytest.raises(RestoredFromBackupError):
            await restored.apply(mesh(priority=9))
        assert publisher.sets == []
        await restored.follow(trust(5))
        await eventually(lambda: publisher.newest["tag=hub"][0] == 5)


@pytest.mark.parametrize("key", [KEYS[SignerRole.REGISTRY], KEYS[SignerRole.POLICY], KeyPair.generate(KeyKind.SIGNING)])
async def test_nobody_but_the_root_announces_an_epoch(key: KeyPair) -> None:
    side = Side(MemoryPublisher())
    side.restore_guard.compare((), (1, 0))
    genuine = trust(2)
    forged = [
        trust(2, key),
        genuine.model_copy(update={"epoch": 3}),
        genuine.model_copy(update={"signer": SignerRole.REGISTRY}),
        genuine.model_copy(update={"payload": genuine.payload.replace('"epoch":2', '"epoch":3')}),
        genuine.model_copy(update={"subject": "warren.v1.policy.all"}),
    ]
    for document in forged:
        with pytest.raises(ForbiddenError, match="not announced by the trust root"):
            await side.follow(document)
    assert await side.store.version() == (1, 0)


async def test_epochs_never_go_back_and_none_begins_before_the_stream_is_known() -> None:
    side = Side(MemoryPublisher())
    with pytest.raises(NotComparedError):
        await side.follow(trust(3))
    side.restore_guard.compare((), (1, 0))
    assert await side.follow(trust(3)) == (3, 1)
    with pytest.raises(ConflictError, match="epoch 2 is over"):
        await side.follow(trust(2))


READERS = ("all", "peer=p", "peer=q", "tag=x", "tag=y")
POLICIES = st.lists(
    st.builds(
        lambda members, enabled: (members, enabled),
        st.sets(st.sampled_from(READERS), min_size=1).map(sorted), st.booleans(),
    ),
    max_size=4,
)  # fmt: skip


@given(POLICIES, st.sets(st.sampled_from(READERS)))
def test_every_reader_has_its_set_and_holding_one_means_to_wait_for_the_rest(
    stated: list[tuple[list[str], bool]], known: set[str]
) -> None:
    policies = {
        f"p{n}": PublishedPolicy(revision=1, policy=mesh(f"p{n}", *members, enabled=enabled))
        for n, (members, enabled) in enumerate(stated)
    }
    sets = [PolicySet.model_validate_json(item.payload) for item in every_set(policies, known, 2, 9, readers)]
    found = {held.reader: {item.policy.id for item in held.policies} for held in sets}
    wanted: dict[str, set[str]] = {reader: set() for reader in known}
    for id_, item in policies.items():
        for reader in readers(item.policy):
            wanted.setdefault(reader, set()).add(id_)
    assert found == wanted
    assert {(held.epoch, held.revision) for held in sets} <= {(2, 9)}
    for peer in ("p", "q"):
        own = [held for held in sets if held.reader in ("all", f"peer={peer}", "tag=x", "tag=y")]
        required: set[str] = set()
        for index, held in enumerate(own):  # as they arrive
            required |= set(held.batch)
            assert required >= {later.reader for later in own[index:]}


def test_a_set_that_has_no_space_for_its_batch_is_published_all_the_same() -> None:
    item = PublishedPolicy(revision=1, policy=mesh("large", "tag=a").model_copy(update={"description": ""}))
    space = MAX_POLICY_SET - len(every_set({"large": item}, (), 2, 2, readers)[0].payload)
    large = item.model_copy(update={"policy": item.policy.model_copy(update={"description": "x" * space})})
    sets = {held.reader: held for held in every_set({"large": large}, ("tag=b",), 2, 2, readers)}
    assert len(sets["tag=a"].payload) == MAX_POLICY_SET
    assert PolicySet.model_validate_json(sets["tag=b"].payload).batch == ("tag=a", "tag=b")
