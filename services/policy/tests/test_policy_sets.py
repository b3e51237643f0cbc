from types import MappingProxyType
from typing import Any

import pytest

from warren_contracts.commands import ApplyPolicies
from warren_contracts.policy import MAX_POLICY_SET, Policy, PolicySet
from warren_contracts.problems import InvalidInputError
from warren_policy.domain.batches import cut
from warren_policy.domain.revisions import PolicySnapshot, RevisionChange, plan_apply, plan_delete
from warren_policy.domain.sets import ReaderSet, reader_sets


def policy(id_: str, *members: str, **fields: Any) -> Policy:
    given: dict[str, Any] = {"id": id_, "topology": {"kind": "mesh", "members": list(members)}, **fields}
    return Policy.model_validate(given)


def members(stated: Policy) -> frozenset[str]:
    assert stated.topology is not None
    assert stated.topology.kind == "mesh"
    return frozenset(stated.topology.members)


EMPTY = PolicySnapshot(1, 0, MappingProxyType({}), MappingProxyType({}))


def after(change: RevisionChange) -> PolicySnapshot:
    versions = {id_: published.policy.version for id_, published in change.after.items()}
    return PolicySnapshot(1, change.revision, change.after, MappingProxyType(versions))


def applied(state: PolicySnapshot, *policies: Policy) -> RevisionChange:
    return plan_apply(state, ApplyPolicies(policies=policies))


def sets_of(change: RevisionChange) -> dict[str, PolicySet]:
    return {item.reader: PolicySet.model_validate_json(item.payload) for item in reader_sets(change, 1, members)}


def ids(found: PolicySet) -> list[str]:
    return [published.policy.id for published in found.policies]


def test_the_assembled_json_is_what_the_model_writes() -> None:
    first = applied(EMPTY, policy("b", "tag=hub", "peer=gw1", name='"quoted" ü'), policy("a", "tag=hub"))
    for item in reader_sets(first, 1, members):
        assert item.payload.decode() == PolicySet.model_validate_json(item.payload).model_dump_json()


def test_each_reader_gets_its_policies_by_id_and_the_batch_names_every_reader() -> None:
    found = sets_of(applied(EMPTY, policy("b", "tag=hub", "peer=gw1"), policy("a", "tag=hub")))
    assert ids(found["tag=hub"]) == ["a", "b"]
    assert ids(found["peer=gw1"]) == ["b"]
    assert {item.batch for item in found.values()} == {("peer=gw1", "tag=hub")}
    assert {item.revision for item in found.values()} == {1}


def test_readers_that_a_change_does_not_touch_get_nothing() -> None:
    state = after(applied(EMPTY, policy("labs", "tag=lab"), policy("branches", "tag=branch")))
    assert set(sets_of(applied(state, policy("labs", "tag=lab", priority=7)))) == {"tag=lab"}


def test_a_policy_that_moves_between_tags_is_one_batch_with_additions_first() -> None:
    state = after(applied(EMPTY, policy("moving", "tag=a"), policy("staying", "tag=a")))
    change = applied(state, policy("moving", "tag=b"))
    assert [(item.reader, item.adds) for item in reader_sets(change, 1, members)] == [("tag=b", True), ("tag=a", False)]
    found = sets_of(change)
    assert ids(found["tag=a"]) == ["staying"]
    assert found["tag=a"].batch == ("tag=a", "tag=b")


def test_a_withdrawn_policy_leaves_an_emptied_set() -> None:
    change = plan_delete(after(applied(EMPTY, policy("labs", "tag=lab"))), ("labs",))
    (emptied,) = reader_sets(change, 1, members)
    assert PolicySet.model_validate_json(emptied.payload).policies == ()
    assert not emptied.adds


def test_a_disabled_policy_is_sent_so_that_agents_keep_its_traffic_protected() -> None:
    state = after(applied(EMPTY, policy("labs", "tag=lab")))
    assert ids(sets_of(applied(state, policy("labs", "tag=lab", enabled=False)))["tag=lab"]) == ["labs"]
    assert ids(sets_of(applied(EMPTY, policy("labs", "tag=lab", enabled=False)))["tag=lab"]) == ["labs"]


def test_a_set_above_the_limit_is_refused_by_the_name_of_its_reader() -> None:
    spec = {"name": "t", "ends": [{"peer": "gw1"}, {"peer": "gw2"}]}
    tunnels = [{**spec, "name": f"tunnel-{n:05}"} for n in range(MAX_POLICY_SET // 180)]
    with pytest.raises(InvalidInputError, match=r"the set of tag=hub would have [\d,]+ bytes, 900,000 is the limit"):
        reader_sets(applied(EMPTY, policy("large", "tag=hub", tunnels=tunnels)), 1, members)


def test_a_revision_above_the_limit_is_refused_although_each_set_fits() -> None:
    text = {"description": "x" * 1000}
    policies = [policy(f"p{n}", *(f"peer=gw{m}" for m in range(140)), **text) for n in range(180)]
    with pytest.raises(InvalidInputError, match="in one revision"):
        reader_sets(applied(EMPTY, *policies), 1, members)


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (7, [3, 3, 1])])
def test_batches_are_cut_by_count_in_order(count: int, sizes: list[int]) -> None:
    messages = [ReaderSet(f"tag=t{n}", b"x", True) for n in range(count)]
    batches = cut(messages, max_messages=3)
    assert [len(batch) for batch in batches] == sizes
    assert [item for batch in batches for item in batch] == messages


def test_batches_are_cut_by_bytes_and_a_giant_stands_alone() -> None:
    messages = [ReaderSet(f"tag=t{n}", b"x" * size, True) for n, size in enumerate((6, 4, 1, 30, 5))]
    assert [[len(item.payload) for item in batch] for batch in cut(messages, max_bytes=10)] == [[6, 4], [1], [30], [5]]
