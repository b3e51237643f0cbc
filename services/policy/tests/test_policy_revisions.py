from types import MappingProxyType
from typing import Any

import pytest

from warren_contracts.commands import ApplyPolicies
from warren_contracts.policy import Policy, PublishedPolicy
from warren_contracts.problems import ConflictError, InvalidInputError, NotFoundError
from warren_policy.domain.revisions import PolicySnapshot, plan_apply, plan_delete


def policy(id_: str, **fields: Any) -> Policy:
    given: dict[str, Any] = {"id": id_, "topology": {"kind": "mesh", "members": ["tag=hub"]}, **fields}
    return Policy.model_validate(given)


def snapshot(*policies: Policy, revision: int = 7) -> PolicySnapshot:
    held = {item.id: PublishedPolicy(revision=revision, policy=item) for item in policies}
    return PolicySnapshot(
        1, revision, MappingProxyType(held), MappingProxyType({item.id: item.version for item in policies})
    )


def apply(*policies: Policy, **fields: Any) -> ApplyPolicies:
    return ApplyPolicies(policies=policies, **fields)


def test_a_new_policy_is_created_at_the_next_revision_with_version_one() -> None:
    change = plan_apply(snapshot(), apply(policy("branches")))
    assert (change.created, change.updated, change.unchanged) == (("branches",), (), ())
    assert change.after["branches"].revision == 8
    assert change.after["branches"].policy.version == 1


@pytest.mark.parametrize(("held", "stated"), [(0, 1), (3, 2), (3, 4)])
def test_an_edit_of_another_version_than_the_stored_one_is_refused(held: int, stated: int) -> None:
    before = snapshot(policy("branches", version=held)) if held else snapshot()
    with pytest.raises(ConflictError) as caught:
        plan_apply(before, apply(policy("branches", version=stated, priority=7)))
    assert [error.field for error in caught.value.errors] == ["policies/0/version"]


def test_an_edit_of_the_stored_version_is_an_update() -> None:
    before = snapshot(policy("branches", version=3))
    assert plan_apply(before, apply(policy("branches", version=3, priority=7))).updated == ("branches",)


def test_a_policy_stated_again_without_its_version_is_unchanged() -> None:
    stored = policy("branches", version=3)
    change = plan_apply(snapshot(stored), apply(policy("branches", version=0)))
    assert change.changed == ()
    assert change.unchanged == ("branches",)


def test_an_edit_counts_the_version_and_leaves_the_others_at_their_revision() -> None:
    state = snapshot(policy("branches", version=3), policy("labs", version=1))
    change = plan_apply(state, apply(policy("branches", priority=5)))
    assert change.updated == ("branches",)
    assert change.after["branches"].policy.version == 4
    assert change.after["labs"].revision == 7


def test_a_version_is_never_used_twice_after_a_deletion() -> None:
    state = PolicySnapshot(1, 9, MappingProxyType({}), MappingProxyType({"branches": 4}))
    change = plan_apply(state, apply(policy("branches")))
    assert change.created == ("branches",)
    assert change.after["branches"].policy.version == 5


def test_an_id_given_twice_names_both_places() -> None:
    with pytest.raises(InvalidInputError) as caught:
        plan_apply(snapshot(), apply(policy("labs"), policy("branches"), policy("labs", priority=1)))
    assert caught.value.errors[0].field == "policies/2/id"
    assert "policies/0" in caught.value.errors[0].message


def test_another_version_than_expected_is_a_conflict_that_names_the_stored_one() -> None:
    with pytest.raises(ConflictError) as caught:
        plan_apply(snapshot(policy("labs", version=3)), apply(policy("labs"), expected_versions={"labs": 2}))
    assert caught.value.errors[0].field == "expected_versions/labs"
    assert "stored is 3" in caught.value.errors[0].message


def test_an_expected_version_zero_means_that_the_policy_must_be_new() -> None:
    plan_apply(snapshot(), apply(policy("labs"), expected_versions={"labs": 0}))
    with pytest.raises(ConflictError):
        plan_apply(snapshot(policy("labs", version=1)), apply(policy("labs"), expected_versions={"labs": 0}))


def test_an_expected_version_of_a_policy_that_is_not_given_is_invalid() -> None:
    with pytest.raises(InvalidInputError, match="expected_versions/labs"):
        plan_apply(snapshot(), apply(policy("branches"), expected_versions={"labs": 1}))


def test_create_refuses_what_exists_and_update_what_does_not() -> None:
    with pytest.raises(ConflictError, match="labs exists already"):
        plan_apply(snapshot(policy("labs")), apply(policy("labs"), mode="create"))
    with pytest.raises(NotFoundError, match="no policy labs"):
        plan_apply(snapshot(), apply(policy("labs"), mode="update"))


def test_a_deletion_is_all_or_none() -> None:
    state = snapshot(policy("labs"), policy("branches"))
    with pytest.raises(NotFoundError, match="no policy attic: nothing was deleted"):
        plan_delete(state, ("labs", "attic"))
    change = plan_delete(state, ("labs", "labs"))
    assert change.deleted == ("labs",)
    assert set(change.after) == {"branches"}


def test_a_deletion_may_name_the_versions_that_it_means() -> None:
    state = snapshot(policy("labs"), policy("branches"))
    held = state.policies["labs"].policy.version
    with pytest.raises(ConflictError, match=f"expected_versions/labs: expected version {held + 1}, stored is {held}"):
        plan_delete(state, ("labs", "branches"), {"labs": held + 1})
    with pytest.raises(InvalidInputError, match="not in `ids`"):
        plan_delete(state, ("branches",), {"labs": held})
    assert plan_delete(state, ("labs",), {"labs": held}).deleted == ("labs",)
