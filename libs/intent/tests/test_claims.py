"""Values that a policy assigns to an end override announcements of other peers."""

from ipaddress import ip_network
from typing import Any

import pytest

from warren_contracts.policy import PublishedPolicy
from warren_intent.claims import PolicyClaims, apply_claims
from warren_intent.derivation import SkipCode
from warren_intent.expand import expand, explain
from warren_testkit.intent import directory, public_key, published, record


def gives(subnet: str, identity: str = "partner.example", **fields: Any) -> PublishedPolicy:
    foreign = {"identity": identity, "public_key": public_key("p"), "subnets": [subnet], "addresses": ["203.0.113.9"]}
    return published("gives", tunnels=[{"name": "partner", "ends": [{"peer": "hub-1"}, foreign]}], **fields)


@pytest.mark.parametrize(
    ("announced", "taken"),
    [
        ("10.31.0.0/24", True), ("10.31.0.0/25", True), ("10.31.0.128/25", True), ("10.31.0.7/32", True), ("10.0.0.0/8", True),
        ("10.30.0.0/15", True), ("10.31.1.0/24", False), ("10.30.255.0/24", False), ("fd00::/16", False),
    ],
)  # fmt: skip
def test_a_given_network_is_found_from_within_and_from_around(announced: str, taken: bool) -> None:
    claim = PolicyClaims([gives("10.31.0.0/24")]).network(ip_network(announced), "evil")
    assert (claim is not None) is taken
    assert claim is None or (claim.policy, claim.path, claim.owner) == ("gives", "tunnels/0/ends/1", "partner.example")


def test_the_peer_at_the_other_end_may_protect_the_network_and_a_default_route_is_no_claim() -> None:
    assert PolicyClaims([gives("10.31.0.0/24")]).network(ip_network("10.0.0.0/8"), "hub-1") is None
    assert PolicyClaims([gives("0.0.0.0/0")]).network(ip_network("10.1.0.0/16"), "evil") is None
    assert not PolicyClaims([gives("10.31.0.0/24", enabled=False)])


@pytest.mark.parametrize("spelling", ["partner.example", "PARTNER.example.", "@Partner.Example", "dns:partner.example"])
def test_a_given_identity_is_found_however_it_is_spelled(spelling: str) -> None:
    given = PolicyClaims([gives("10.31.0.0/24")])
    assert given.identity(spelling, "evil") is not None
    assert given.identity(spelling, "hub-1") is not None  # it is the gateway's alone
    assert given.identity("email:partner.example", "evil") is None


def test_a_settled_directory_lacks_what_belongs_to_others_and_nothing_else() -> None:
    fleet = directory(
        record("hub-1", 1, "hub"), record("good", 2, "branch"),
        record("evil", 3, "branch", subnets=("10.31.0.0/25", "10.3.0.0/24"), identity="Partner.Example"),
    )  # fmt: skip
    records, rejected = apply_claims(PolicyClaims([gives("10.31.0.0/24")]), fleet)
    assert [it.what for it in rejected] == ["10.31.0.0/25", "Partner.Example"]
    assert (records["evil"].subnets, records["evil"].identity) == ((ip_network("10.3.0.0/24"),), "evil")
    assert {peer: records[peer] for peer in ("hub-1", "good")} == {peer: fleet[peer] for peer in ("hub-1", "good")}
    assert apply_claims(PolicyClaims([gives("10.31.0.0/24")]), records) == (records, [])


@pytest.mark.parametrize("priority", [1, 300])
def test_a_peer_does_not_take_what_a_policy_gives_whatever_the_priority_of_its_own_policy(priority: int) -> None:
    star = published("star", hubs=["tag=hub"], spokes=["tag=branch"], priority=priority)
    end = {"peer": "c-good", "subnets": ["10.31.0.0/24"]}
    office = published("office", tunnels=[{"name": "office", "ends": [{"peer": "hub-1"}, end]}], priority=100)
    evil = record("b-evil", 3, "branch", subnets=("10.31.0.0/25", "10.31.0.128/25"))
    fleet = directory(record("hub-1", 1, "hub"), record("c-good", 2), evil)
    assert [it.name for it in expand([star, office], fleet, "hub-1")] == ["office"]
    assert [it.name for it in expand([star, office], fleet, "c-good")] == ["office"]
    assert expand([star, office], fleet, "b-evil") == ()
    for me in ("hub-1", "b-evil"):
        (skipped,) = explain([star, office], fleet, me).skipped
        assert (skipped.name, skipped.code) == ("b-evil+hub-1", SkipCode.CONFLICT)
        assert "at peer hub-1 the tunnel office claims the same traffic" in skipped.message
