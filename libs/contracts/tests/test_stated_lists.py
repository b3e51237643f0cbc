"""A list in a policy has an entry or is omitted: an empty one is refused as input, and read as omitted from storage."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from warren_contracts.base import read
from warren_contracts.commands import ApplyPolicies, StoredPolicy
from warren_contracts.policy import Policy, PolicySet, PublishedPolicy
from warren_contracts.problems import invalid_input

MESH = {"kind": "mesh", "members": ["all"]}
FOREIGN = {"identity": "gw.example.org", "public_key": "A" * 43 + "=", "subnets": ["10.9.0.0/24"]}
MESSAGE = "must have at least one entry, or be omitted"


def ends(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {"tunnels": [{"name": "x", "ends": [first, second]}]}


EMPTY = [
    ({"applies_to": []}, "applies_to"),
    ({"tunnels": []}, "tunnels"),
    ({"crypto": {"ike": []}}, "crypto/ike"),
    ({"crypto": {"esp": []}}, "crypto/esp"),
    (ends({"peer": "a", "subnets": []}, {"peer": "b"}), "tunnels/0/ends/0/subnets"),
    (ends({"peer": "a"}, {"peer": "b", "addresses": []}), "tunnels/0/ends/1/addresses"),
    (ends({"peer": "a"}, FOREIGN | {"addresses": []}), "tunnels/0/ends/1/addresses"),
]


def refusal(data: dict[str, Any], model: type[Policy] | type[ApplyPolicies] = Policy) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(data))
    return [(it.field, it.message) for it in invalid_input(caught.value.errors()).errors]


@pytest.mark.parametrize(("change", "field"), EMPTY)
def test_empty_list_is_refused_by_field_with_the_remedy(change: dict[str, Any], field: str) -> None:
    policy = {"id": "p", "topology": MESH} | change
    assert refusal(policy) == [(field, MESSAGE)]
    assert refusal({"policies": [policy]}, ApplyPolicies) == [(f"policies/0/{field}", MESSAGE)]


@pytest.mark.parametrize(("change", "field"), EMPTY)
def test_empty_list_of_an_older_writer_is_read_and_never_written_again(change: dict[str, Any], field: str) -> None:
    policy = {"id": "p", "topology": MESH} | change
    published = {"revision": 1, "policy": policy}
    read_set = read(
        PolicySet, json.dumps({"reader": "all", "epoch": 1, "revision": 1, "batch": ["all"], "policies": [published]})
    )
    held = {**published, "updated_at": "2026-01-01T00:00:00Z", "actor": "ann"}
    assert read(StoredPolicy, json.dumps(held)).policy == read_set.policies[0].policy
    assert Policy.model_validate_json(read_set.policies[0].policy.model_dump_json()) == read_set.policies[0].policy


READERS = st.lists(st.sampled_from(["all", "tag=a", "peer=b"]), min_size=1, max_size=2)
NETWORKS = st.lists(st.sampled_from(["10.0.0.0/24", "fd00::/48"]), min_size=1, max_size=2)
ADDRESSES = st.lists(st.sampled_from(["192.0.2.1", "gw.example.org"]), min_size=1, max_size=2)
IKE = st.just(["aes256gcm16-prfsha384-x25519"])
ESP = st.just(["aes256gcm16-x25519-esn"])
CRYPTO = st.fixed_dictionaries({}, optional={"profile": st.just("cnsa2"), "ike": IKE, "esp": ESP})
IKE_OPTIONS = st.fixed_dictionaries({}, optional={"mobike": st.booleans(), "dpd_delay": st.integers(0, 60)})
OPTIONS = st.fixed_dictionaries({}, optional={"ike": IKE_OPTIONS})
GIVEN = {"subnets": NETWORKS, "addresses": ADDRESSES, "xfrm": st.just({"if_id_in": 7})}
TUNNEL = st.fixed_dictionaries(
    {
        "name": st.just("x"),
        "ends": st.tuples(
            st.fixed_dictionaries({"peer": st.just("a")}, optional=GIVEN),
            st.one_of(st.fixed_dictionaries({"peer": st.just("b")}, optional=GIVEN), st.just(FOREIGN)),
        ),
    },
    optional={"crypto": CRYPTO, "options": OPTIONS, "auto_start": st.booleans()},
)
TOPOLOGY = st.one_of(
    st.fixed_dictionaries({"kind": st.just("mesh"), "members": READERS}),
    st.fixed_dictionaries({"kind": st.just("hub-spoke"), "hubs": READERS, "spokes": READERS}),
)
POLICIES = st.fixed_dictionaries(
    {"id": st.just("p"), "topology": TOPOLOGY},
    optional={
        "applies_to": READERS, "tunnels": st.tuples(TUNNEL), "crypto": CRYPTO, "options": OPTIONS,
        "priority": st.integers(0, 9), "enabled": st.booleans(), "name": st.text(max_size=5),
    },
)  # fmt: skip


@given(POLICIES)
def test_accepted_policy_is_accepted_again_however_it_was_written(stated: dict[str, Any]) -> None:
    policy = Policy.model_validate(stated)
    ways: tuple[dict[str, Any], ...] = ({}, {"exclude_unset": True}, {"exclude_defaults": True})
    for how in ways:
        assert Policy.model_validate_json(policy.model_dump_json(**how)) == policy
        assert Policy.model_validate(policy.model_dump(mode="json", **how)) == policy
    published = PublishedPolicy(revision=1, policy=policy)
    assert PublishedPolicy.model_validate_json(published.model_dump_json()) == published
