import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from warren_contracts.commands import ApplyPolicies, DeletePolicies, Page
from warren_contracts.events import PolicyChanged
from warren_contracts.peers import DriverCapabilities
from warren_contracts.policy import Policy, PolicySet
from warren_contracts.policy_history import ListHistory
from warren_contracts.problems import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from warren_policy.domain import audit
from warren_policy.domain.derived import DerivedSets
from warren_policy.domain.revisions import PolicySnapshot
from warren_policy.errors import IntentRefusedError, RevisionMovedError
from warren_policy.ports import CallContext, Commit, FleetRecords, Outbox
from warren_policy.service import PolicyService
from warren_service.restore_guard import RestoreGuard
from warren_testkit.intent import directory, record
from warren_testkit.policy import MemoryDirectory, MemoryPolicies

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CALLER = CallContext("op.ann", f"00-{'a' * 32}-{'b' * 16}-01", "a" * 32)


def clock() -> Callable[[], datetime]:
    ticks = count()
    return lambda: START + timedelta(seconds=next(ticks))


class World:
    """A service on fakes, with one hub and two spokes."""

    def __init__(self, store: MemoryPolicies | None = None) -> None:
        self.store = store or MemoryPolicies()
        fleet = directory(record("hub-1", 1, "hub"), record("gw1", 2, "branch"), record("gw2", 3, "branch"))
        self.directory = MemoryDirectory(FleetRecords(fleet, frozenset({"hub", "branch", "lab"})))
        self.committed = 0
        self.restore_guard = RestoreGuard("POLICY")
        self.restore_guard.compare((), (1, 0))
        ids = count()
        self.service = PolicyService(
            self.store, self.directory, DerivedSets(), now=clock(), new_id=lambda: f"id-{next(ids)}", committed=self._wake,
            restore_guard=self.restore_guard,
        )  # fmt: skip

    def _wake(self) -> None:
        self.committed += 1

    async def apply(self, *policies: Policy, **fields: Any) -> Any:
        return await self.service.apply(ApplyPolicies(policies=policies, **fields), CALLER)

    async def outbox(self) -> Outbox:
        async with self.store.next() as ticket:
            assert ticket is not None
            await ticket.done()
            return ticket.outbox


def branches(**fields: Any) -> Policy:
    topology = {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]}
    return Policy.model_validate({"id": "branches", "topology": topology, **fields})


async def test_an_applied_policy_is_stored_with_its_sets_and_events() -> None:
    world = World()
    reply = await world.apply(branches())
    assert (reply.epoch, reply.revision, reply.created) == (1, 1, ("branches",))
    assert reply.readers == ("tag=branch", "tag=hub")
    assert world.committed == 1
    outbox = await world.outbox()
    assert reply.stored_at == outbox.at
    assert outbox.traceparent == CALLER.traceparent
    assert {item.reader: PolicySet.model_validate_json(item.payload).revision for item in outbox.sets} == {
        "tag=branch": 1, "tag=hub": 1,
    }  # fmt: skip
    (event,) = outbox.events
    assert event.subject == "warren.v1.event.policy.changed.branches"
    changed = PolicyChanged.model_validate_json(event.payload)
    assert (changed.action, changed.version, changed.actor) == ("created", 1, "op.ann")


async def test_the_same_policy_again_makes_no_revision_and_needs_no_registry() -> None:
    world = World()
    await world.apply(branches())
    world.directory.unavailable = True
    reply = await world.apply(branches())
    assert (reply.revision, reply.unchanged, reply.readers) == (1, ("branches",), ())
    assert world.committed == 1


async def test_a_dry_run_reports_what_would_change_and_stores_nothing() -> None:
    world = World()
    reply = await world.apply(branches(), dry_run=True)
    assert (reply.revision, reply.created, reply.readers) == (0, ("branches",), ("tag=branch", "tag=hub"))
    assert world.committed == 0
    assert await world.store.pending() == 0


async def test_a_dry_run_reports_the_effect_on_every_tunnel() -> None:
    world = World()
    assert (await world.apply(branches())).effects is None
    strict = {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["peer=gw1"]}
    other = {"id": "strict", "topology": strict, "priority": 200, "crypto": {"profile": "nist-800-77r1"}}
    effects = (await world.apply(Policy.model_validate(other), dry_run=True)).effects
    assert (effects.untouched, effects.ike, effects.touched) == (1, 1, {"gw1+hub-1": "ike"})
    effects = (await world.apply(branches(options={"child": {"rekey_time": 1_800}}), dry_run=True)).effects
    assert (effects.untouched, effects.child) == (0, 2)
    assert (await world.apply(branches(), dry_run=True)).effects is None


async def test_an_unknown_tag_names_policy_and_field_and_stores_nothing() -> None:
    world = World()
    topology = {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=brunch"]}
    with pytest.raises(IntentRefusedError) as caught:
        await world.apply(
            Policy.model_validate({"id": "labs", "topology": {"kind": "mesh", "members": ["tag=branch"]}}),
            branches(topology=topology),
        )
    problem = caught.value.problem()
    assert problem.type == "urn:warren:problem:unknown-tag"
    assert problem.status == 422
    assert [error.field for error in problem.errors] == ["policies/1/topology/spokes/0"]
    assert "policy branches" in problem.detail
    assert await world.store.get("labs") is None


async def test_a_tie_with_a_stored_policy_is_refused() -> None:
    world = World()
    await world.apply(branches())
    with pytest.raises(InvalidInputError) as caught:
        await world.apply(branches(id="other"))
    assert caught.value.problem().type == "urn:warren:problem:tie"
    assert "branches" in caught.value.detail


async def test_what_was_wrong_before_does_not_stop_another_change() -> None:
    world = World()
    lone = Policy.model_validate({"id": "lone", "topology": {"kind": "mesh", "members": ["tag=lab", "tag=branch"]}})
    await world.apply(lone)
    world.directory.value = FleetRecords(
        world.directory.value.records, frozenset({"hub", "branch"})
    )  # nobody is `lab` now
    assert (await world.apply(branches())).created == ("branches",)
    reply = await world.apply(lone.model_copy(update={"priority": 5}))
    assert reply.updated == ("lone",)
    assert any("unknown tag lab" in warning.message for warning in reply.warnings)


async def test_a_policy_that_names_a_revoked_peer_can_be_edited_with_a_warning() -> None:
    world = World()
    topology = {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["peer=gw1"]}
    await world.apply(branches(topology=topology))
    records = {peer: found for peer, found in world.directory.value.records.items() if peer != "gw1"}
    world.directory.value = FleetRecords(records, world.directory.value.tags)
    reply = await world.apply(branches(topology=topology, enabled=False))
    assert reply.updated == ("branches",)
    assert any("unknown peer gw1" in warning.message for warning in reply.warnings)
    with pytest.raises(IntentRefusedError, match="unknown peer gw7"):
        await world.apply(branches(topology=topology | {"spokes": ["peer=gw1", "peer=gw7"]}))


async def test_warnings_are_reported_and_stored() -> None:
    world = World()
    records = {**world.directory.value.records, "gw3": record("gw3", 4, "branch", public_key=None)}
    world.directory.value = FleetRecords(records, world.directory.value.tags)
    reply = await world.apply(branches())
    assert reply.created == ("branches",)
    assert any("gw3" in warning.message for warning in reply.warnings)


async def test_an_absent_registry_is_named_and_nothing_is_stored() -> None:
    world = World()
    world.directory.unavailable = True
    with pytest.raises(UnavailableError, match="registry"):
        await world.apply(branches())
    assert await world.store.get("branches") is None


async def test_a_deletion_needs_no_registry_and_empties_the_sets() -> None:
    world = World()
    await world.apply(branches())
    await world.outbox()
    world.directory.unavailable = True
    reply = await world.service.delete(DeletePolicies(ids=("branches",)), CALLER)
    assert (reply.revision, reply.deleted, reply.readers) == (2, ("branches",), ("tag=branch", "tag=hub"))
    outbox = await world.outbox()
    assert all(PolicySet.model_validate_json(item.payload).policies == () for item in outbox.sets)
    assert PolicyChanged.model_validate_json(outbox.events[0].payload).action == "deleted"
    with pytest.raises(NotFoundError):
        await world.service.get("branches")


async def test_a_listing_pages_by_id() -> None:
    world = World()
    await world.apply(*(branches(id=f"p{n}", priority=n) for n in range(5)))
    first = await world.service.list(Page(limit=3))
    assert ([item.policy.id for item in first.policies], first.next_after) == (["p0", "p1", "p2"], "p2")
    last = await world.service.list(Page(after="p2", limit=3))
    assert ([item.policy.id for item in last.policies], last.next_after) == (["p3", "p4"], None)


async def test_concurrent_changes_are_all_stored() -> None:
    world = World()
    replies = await asyncio.gather(*(world.apply(branches(id=f"p{n}", priority=n)) for n in range(10)))
    assert sorted(reply.revision for reply in replies) == list(range(1, 11))
    assert audit.verify(*await world.store.audit()) == 10


class RacingStore(MemoryPolicies):
    """Another instance commits between this one's reading and its commit, `races` times."""

    def __init__(self, races: int) -> None:
        super().__init__()
        self.races = races

    async def commit(self, commit: Commit) -> None:
        if self.races:
            self.races -= 1
            other = World(store=MemoryPolicies())
            other.store.__dict__ = self.__dict__  # the same database
            races, self.races = self.races, 0
            await other.apply(branches(id=f"other-{races}", priority=races))
            self.races = races
        await super().commit(commit)


async def test_a_change_that_lost_a_race_is_computed_again_on_the_new_state() -> None:
    world = World(RacingStore(races=2))
    reply = await world.apply(branches(id="mine", priority=50))
    assert reply.revision == 3
    state: PolicySnapshot = await world.store.snapshot()
    assert set(state.policies) == {"mine", "other-0", "other-1"}


async def test_a_change_that_always_loses_is_a_conflict() -> None:
    world = World(RacingStore(races=100))
    with pytest.raises(RevisionMovedError) as caught:
        await world.apply(branches(id="mine", priority=5_000))
    assert isinstance(caught.value, ConflictError)


@pytest.mark.parametrize(
    ("said", "warning"),
    [
        ({"drivers": (DriverCapabilities(ike=("nonsense",)),)}, "have no common IKE proposal"),
        ({"subnets": record("x", 2).subnets}, "claim the same traffic"),
        ({"identity": "@GW1"}, "have the same IKE identity"),
    ],
)
async def test_a_policy_is_stored_with_a_warning_next_to_a_hostile_record(said: dict[str, Any], warning: str) -> None:
    world = World()
    fleet = directory(record("hub-1", 1, "hub"), record("gw1", 2, "branch"), record("gw2", 3, "branch", **said))
    world.directory = MemoryDirectory(FleetRecords(fleet, frozenset({"hub", "branch"})))
    world.service = PolicyService(
        world.store,
        world.directory,
        DerivedSets(),
        now=clock(),
        new_id=lambda: "id",
        committed=world._wake,
        restore_guard=world.restore_guard,
    )
    for revision, description in enumerate(("first", "changed"), start=1):
        reply = await world.apply(branches(description=description))
        assert reply.revision == revision
        assert any(warning in finding.message for finding in reply.warnings)


async def test_every_version_is_in_the_history_by_pages_also_after_a_deletion() -> None:
    world = World()
    for priority in (1, 2, 3):
        await world.apply(branches(priority=priority))
    await world.service.delete(DeletePolicies(ids=("branches",)), CALLER)
    first = await world.service.history(ListHistory(id="branches", limit=2))
    assert [(it.action, it.version) for it in first.versions] == [("deleted", 3), ("updated", 3)]
    assert first.versions[0].policy is None
    rest = await world.service.history(ListHistory(id="branches", before=first.next_before or 0, limit=2))
    assert [(it.action, it.version, it.policy.priority if it.policy else None) for it in rest.versions] == [
        ("updated", 2, 2),
        ("created", 1, 1),
    ]
    assert rest.next_before is None
    assert rest.versions[0].actor == CALLER.actor
    with pytest.raises(NotFoundError):
        await world.service.history(ListHistory(id="never"))
