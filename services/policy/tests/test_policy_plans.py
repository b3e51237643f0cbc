"""Plans, differences, and the audit log as a service replies them."""

from typing import Any

import pytest

from warren_contracts.commands import ApplyPolicies, DeletePolicies, Page
from warren_contracts.peers import DriverCapabilities
from warren_contracts.plan_mark import PlanMark
from warren_contracts.plans import DiffPolicy, Interruption, PlanPolicies
from warren_contracts.policy import Policy
from warren_contracts.problems import InvalidInputError, NotFoundError
from warren_contracts.tunnel_history import PoliciesAtQuery
from warren_intent.plan import Effect, interruption
from warren_policy.domain.derived import DerivedSets
from warren_policy.errors import IntentRefusedError, PlanMovedError
from warren_policy.planner import Planner
from warren_policy.ports import CallContext, FleetRecords
from warren_policy.records import PolicyRecords
from warren_policy.service import PolicyService
from warren_service.restore_guard import RestoreGuard
from warren_testkit.intent import directory, record
from warren_testkit.metrics import START
from warren_testkit.policy import MemoryDirectory, MemoryPolicies

CALLER = CallContext("op.ann")


class World:
    """The policy service on fakes, with one hub and two branches."""

    def __init__(self) -> None:
        self.store = MemoryPolicies()
        self.fleet = directory(record("hub-1", 1, "hub"), record("gw1", 2, "branch"), record("gw2", 3, "branch"))
        self.directory = MemoryDirectory(FleetRecords(self.fleet, frozenset({"hub", "branch"})))
        derived = DerivedSets()
        self.planner = Planner(self.store, self.directory, derived)
        self.records = PolicyRecords(self.store, lambda: START)
        guard = RestoreGuard("POLICY")
        guard.compare((), (1, 0))
        self.service = PolicyService(
            self.store,
            self.directory,
            derived,
            now=lambda: START,
            new_id=lambda: "id",
            committed=lambda: None,
            restore_guard=guard,
        )

    async def apply(self, *policies: Policy, plan: PlanMark | None = None) -> Any:
        return await self.service.apply(ApplyPolicies(policies=policies, plan=plan), CALLER)

    async def delete(self, *ids: str) -> Any:
        return await self.service.delete(DeletePolicies(ids=ids), CALLER)


def branches(**fields: Any) -> Policy:
    topology = {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]}
    return Policy.model_validate({"id": "branches", "topology": topology, **fields})


async def test_a_plan_names_fields_and_tunnels_and_stores_nothing() -> None:
    world = World()
    plan = await world.planner.plan(PlanPolicies(policies=(branches(),)))
    assert [(it.id, it.action, it.version) for it in plan.policies] == [("branches", "created", 0)]
    assert [(it.name, it.interruption) for it in plan.tunnels] == [("gw1+hub-1", "new"), ("gw2+hub-1", "new")]
    assert not plan.is_empty
    assert (await world.store.snapshot()).policies == {}
    await world.apply(branches())
    plan = await world.planner.plan(PlanPolicies(policies=(branches(crypto={"profile": "cnsa1"}, priority=7),)))
    assert {it.field: it.after for it in plan.policies[0].changes} == {"crypto/profile": '"cnsa1"', "priority": "7"}
    assert plan.interruptions == {Interruption.RE_ESTABLISHED: 2}
    assert (plan.effects.ike, plan.effects.touched) == (2, {})
    same = await world.planner.plan(PlanPolicies(policies=(branches(),)))
    assert same.is_empty
    with pytest.raises(IntentRefusedError):
        await world.planner.plan(PlanPolicies(policies=(branches(applies_to=["tag=nosuch"]),)))


async def test_the_pages_of_a_plan_are_of_one_plan() -> None:
    world = World()
    first = await world.planner.plan(PlanPolicies(policies=(branches(),), limit=1))
    assert ([it.name for it in first.tunnels], first.next_after) == (["gw1+hub-1"], "gw1+hub-1")
    world.fleet.pop("gw2")  # the fleet changes between two pages
    second = await world.planner.plan(PlanPolicies(policies=(branches(),), limit=1, after="gw1+hub-1"))
    assert ([it.name for it in second.tunnels], second.next_after) == (["gw2+hub-1"], None)
    assert second.mark == first.mark


async def test_exactly_the_plan_is_applied_or_nothing() -> None:
    world = World()
    planned = (await world.planner.plan(PlanPolicies(policies=(branches(),)))).mark
    assert (await world.apply(branches(), plan=planned)).created == ("branches",)
    with pytest.raises(PlanMovedError, match=r"made at revision 1\.0, and 1\.1 is stored now"):
        await world.apply(branches(), plan=planned)
    edited = branches(priority=9)
    planned = (await world.planner.plan(PlanPolicies(policies=(edited,)))).mark
    with pytest.raises(PlanMovedError, match="not those of the plan"):
        await world.apply(branches(priority=8), plan=planned)
    retagged = world.fleet["gw2"].model_copy(update={"tags": ()})
    held, world.fleet["gw2"] = world.fleet["gw2"], retagged
    with pytest.raises(PlanMovedError, match="the gateways have changed since"):
        await world.apply(edited, plan=planned)
    world.fleet["gw2"] = held
    assert (await world.apply(edited, plan=planned)).updated == ("branches",)
    assert (await world.store.snapshot()).revision == 2


def test_what_a_change_interrupts_is_as_the_drivers_apply_it() -> None:
    able, unable = (
        DriverCapabilities(features=("mobike", "child-update")), DriverCapabilities(kind="userspace", features=("mobike",))
    )  # fmt: skip
    assert interruption(Effect.CHILD, (able, DriverCapabilities())) is Interruption.REKEY
    assert interruption(Effect.CHILD, (able, unable)) is Interruption.RE_ESTABLISHED
    assert interruption(Effect.IKE, (able, able)) is Interruption.RE_ESTABLISHED
    assert interruption(Effect.UNTOUCHED, (unable,)) is Interruption.NONE


async def test_versions_are_compared_field_by_field() -> None:
    world = World()
    for priority in (5, 7):
        await world.apply(branches(priority=priority))
    found = await world.records.diff(DiffPolicy(id="branches"))
    assert (found.from_version, found.to_version) == (1, 2)
    assert [str(it) for it in found.changes] == ["priority: 5 -> 7"]
    assert (await world.records.diff(DiffPolicy(id="branches", to_version=1))).from_version == 0
    for command in (DiffPolicy(id="branches", from_version=9), DiffPolicy(id="nosuch")):
        with pytest.raises(NotFoundError):
            await world.records.diff(command)


async def test_deleted_policies_are_listed_by_pages() -> None:
    world = World()
    await world.apply(*(branches(id=name, enabled=False) for name in ("a", "b", "c")))
    assert (await world.records.deleted(Page())).policies == ()
    await world.delete("a", "b", "c")
    first = await world.records.deleted(Page(limit=2))
    assert ([(it.id, it.version) for it in first.policies], first.next_after) == ([("a", 1), ("b", 1)], "b")
    rest = await world.records.deleted(Page(limit=2, after="b"))
    assert ([it.id for it in rest.policies], rest.next_after) == (["c"], None)


async def test_the_policies_at_an_instant_are_those_that_were_stored() -> None:
    world = World()
    await world.apply(branches(priority=5))
    desired = await world.records.policies_at(PoliciesAtQuery(at=START))
    assert (desired.revision, [(it.id, it.version, it.enabled) for it in desired.policies]) == (
        1,
        [("branches", 1, True)],
    )
    with pytest.raises(InvalidInputError, match="at: is in the future"):
        await world.records.policies_at(PoliciesAtQuery(at=START.replace(year=2999)))


async def test_the_audit_log_is_listed_by_pages_and_verified() -> None:
    world = World()
    for priority in (5, 6, 7):
        await world.apply(branches(priority=priority))
    first = await world.records.audit(Page(limit=2))
    assert ([it.seq for it in first.entries], first.next_after) == ([1, 2], "2")
    rest = await world.records.audit(Page(after="2", limit=2))
    assert ([it.seq for it in rest.entries], rest.next_after) == ([3], None)
    verified = await world.records.verify_audit()
    assert (verified.ok, verified.rows, verified.hash) == (True, 3, rest.entries[-1].hash)
    with pytest.raises(InvalidInputError, match="after: "):
        await world.records.audit(Page(after="x"))
