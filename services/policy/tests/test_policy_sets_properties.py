"""Whatever is applied and deleted in whatever order: the newest set of every reader holds exactly its policies."""

from types import MappingProxyType

from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.commands import ApplyPolicies
from warren_contracts.policy import Policy, PolicySet
from warren_intent.relations import readers
from warren_policy.domain.revisions import PolicySnapshot, plan_apply, plan_delete
from warren_policy.domain.sets import reader_sets
from warren_testkit.examples import examples

IDS = st.sampled_from(["a", "b", "c"])
MEMBERS = st.sets(st.sampled_from(["all", "tag=x", "tag=y", "peer=p"]), min_size=1).map(sorted)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    return Policy.model_validate(
        {
            "id": draw(IDS),
            "enabled": draw(st.booleans()),
            "priority": draw(st.integers(0, 2)),
            "topology": {"kind": "mesh", "members": draw(MEMBERS)},
        }
    )


STEPS = st.one_of(
    st.lists(policies(), min_size=1, max_size=3, unique_by=lambda policy: policy.id),
    IDS,  # deletes it, if it is there
)


@examples(60)
@given(st.lists(STEPS, max_size=8))
def test_the_newest_sets_are_the_intent(steps: list[list[Policy] | str]) -> None:
    state = PolicySnapshot(1, 0, MappingProxyType({}), MappingProxyType({}))
    newest: dict[str, PolicySet] = {}
    versions: dict[str, int] = {}
    for step in steps:
        if isinstance(step, str):
            if step not in state.policies:
                continue
            change = plan_delete(state, (step,))
        else:
            change = plan_apply(state, ApplyPolicies(policies=tuple(step)))
        if not change.changed:
            continue
        published = [PolicySet.model_validate_json(item.payload) for item in reader_sets(change, 1, readers)]
        for policy_set in published:
            assert policy_set.batch == tuple(sorted(item.reader for item in published))
            newest[policy_set.reader] = policy_set
        for id_ in (*change.created, *change.updated):
            assert change.after[id_].policy.version == versions.get(id_, 0) + 1
            versions[id_] = change.after[id_].policy.version
        state = PolicySnapshot(1, change.revision, change.after, MappingProxyType(dict(versions)))

    stored = list(state.policies.values())  # disabled ones too: their traffic stays protected
    for reader in {reader for item in stored for reader in readers(item.policy)} | set(newest):
        expected = sorted((item for item in stored if reader in readers(item.policy)), key=lambda item: item.policy.id)
        assert list(newest[reader].policies) == expected
