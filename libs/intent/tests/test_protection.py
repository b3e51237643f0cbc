"""What a peer must not send in clear: of derived tunnels, of requested ones without a tunnel, and of what is gone."""

from ipaddress import ip_network
from typing import Any

import pytest

from warren_contracts.addresses import parse_endpoint
from warren_contracts.guard import Held, HeldState
from warren_contracts.protection import Protect, ProtectedTraffic
from warren_intent.check import check
from warren_intent.expand import explain
from warren_intent.findings import Code, Severity
from warren_intent.protection import protected_by, retained, unprotectable
from warren_testkit.intent import directory, ipsec_tunnel, published, record

HUB = record("hub-1", 1, "hub")
SPOKE_1, SPOKE_2 = record("spoke-1", 11, "branch"), record("spoke-2", 12, "branch")
FLEET = directory(HUB, SPOKE_1, SPOKE_2)
STAR: dict[str, Any] = {"hubs": ["tag=hub"], "spokes": ["tag=branch"]}
TAGS = ("hub", "branch")


def texts(entry: ProtectedTraffic) -> list[tuple[list[str], list[str]]]:
    return [([str(it) for it in pair.local], [str(it) for it in pair.remote]) for pair in entry.pairs]


def of(me: str, *policies: Any, fleet: Any = FLEET) -> dict[str, ProtectedTraffic]:
    return {entry.tunnel: entry for entry in explain(policies, fleet, me).protected}


def held(policy: str, tunnel: str, peer: str | None) -> Held:
    return Held(policy=policy, tunnel=tunnel, peer=peer, state=HeldState.WANTED)


def test_every_tunnel_protects_the_networks_of_its_two_ends() -> None:
    found = of("hub-1", published("star", protect_after_delete=60, **STAR))
    assert sorted(found) == ["hub-1+spoke-1", "hub-1+spoke-2"]
    entry = found["hub-1+spoke-1"]
    assert texts(entry) == [(["10.0.1.0/24"], ["10.0.11.0/24"])]
    assert (entry.peer, entry.protect, entry.after_delete) == ("spoke-1", Protect.ALWAYS, 60)
    assert ProtectedTraffic.model_validate_json(entry.model_dump_json()) == entry


@pytest.mark.parametrize(
    "changes",
    [{"public_key": None}, {"endpoints": ()}],
)
def test_what_cannot_be_derived_is_protected_as_far_as_its_networks_are_known(changes: dict[str, Any]) -> None:
    fleet = directory(record("hub-1", 1, "hub", endpoints=()), record("spoke-1", 11, "branch", **changes))
    explained = explain([published("star", **STAR)], fleet, "hub-1")
    assert changes == {"endpoints": ()} or explained.tunnels == ()
    (entry,) = explained.protected
    assert texts(entry) == [(["10.0.1.0/24"], ["10.0.11.0/24"])]


def test_a_policy_without_a_known_profile_is_protected_all_the_same() -> None:
    explained = explain([published("star", crypto={"profile": "nothing"}, **STAR)], FLEET, "spoke-1")
    assert explained.tunnels == ()
    assert [texts(it) for it in explained.protected] == [[(["10.0.11.0/24"], ["10.0.1.0/24"])]]


def test_protection_that_is_off_protects_nothing() -> None:
    assert of("hub-1", published("star", protect="off", **STAR)) == {}
    assert of("hub-1", published("star", protect="off", crypto={"profile": "nothing"}, **STAR)) == {}


def test_a_road_warrior_is_protected_at_both_ends_before_it_has_its_address() -> None:
    fleet = directory(HUB, record("laptop", 30, "branch", subnets=(), endpoints=()))
    policy = published("warriors", pools=["10.99.0.0/24"], **STAR)
    assert texts(of("hub-1", policy, fleet=fleet)["hub-1+laptop"]) == [(["10.0.1.0/24"], ["10.99.0.0/24"])]
    assert texts(of("laptop", policy, fleet=fleet)["hub-1+laptop"]) == [(["dynamic"], ["10.0.1.0/24"])]


def test_a_host_to_host_tunnel_protects_the_endpoints_unless_one_is_a_name() -> None:
    child = {"local_ts": ["dynamic[udp/1701]"], "remote_ts": ["dynamic[udp/1701]"]}
    tunnel = ipsec_tunnel(child=child, remote_endpoints=["198.51.100.9"])
    entry = protected_by(tunnel)
    assert entry is not None
    assert texts(entry) == [(["dynamic[udp/1701]"], ["198.51.100.9/32[udp/1701]"])]
    assert unprotectable(tunnel) == ""
    named = tunnel.model_copy(update={"remote_endpoints": (parse_endpoint("gw.example.org"),)})
    assert protected_by(named) is None
    assert "protect: off" in unprotectable(named)


def test_an_xfrm_interface_guards_what_is_routed_into_it() -> None:
    everything = {"local_ts": ["0.0.0.0/0"], "remote_ts": ["0.0.0.0/0"]}
    routed = protected_by(ipsec_tunnel(child=everything, link={"xfrm": {"if_id_in": 6, "if_id_out": 7}}))
    assert routed is not None
    assert (routed.pairs, routed.if_id_in, routed.if_id_out) == ((), 6, 7)
    by_selectors = protected_by(ipsec_tunnel(link={"xfrm": {"if_id_out": 7}}))
    assert by_selectors is not None
    assert (len(by_selectors.pairs), by_selectors.if_id_out) == (1, 7)
    without = protected_by(ipsec_tunnel(child=everything))
    assert without is not None
    assert (len(without.pairs), without.if_id_out) == (1, 0)


def test_a_routed_tunnel_that_cannot_be_derived_protects_its_interface_and_not_everything() -> None:
    ends = [
        {"peer": "hub-1", "subnets": ["0.0.0.0/0"], "xfrm": {"if_id_out": 7}},
        {"peer": "spoke-1", "subnets": ["0.0.0.0/0"], "xfrm": {"if_id_out": 7}},
    ]
    policy = published("wide", tunnels=[{"name": "wide", "ends": ends}], topology=None)
    (entry,) = explain([policy], directory(HUB), "hub-1").protected  # the spoke is not enrolled
    assert (entry.tunnel, entry.pairs, entry.if_id_out) == ("wide", (), 7)


def test_a_revoked_peer_and_a_disabled_policy_stay_protected_until_the_policy_is_gone() -> None:
    star = published("star", **STAR)
    entries = [
        held("star", "hub-1+spoke-1", "spoke-1"),
        held("star", "hub-1+spoke-2", "spoke-2"),
        held("old", "t", None),
    ]
    without = directory(HUB, SPOKE_2)
    traffic = explain([star], without, "hub-1").protected
    assert retained(entries, traffic, [star], without, "hub-1") == (("star", "hub-1+spoke-1"),)
    disabled = published("star", revision=2, enabled=False, **STAR)
    assert retained(entries, (), [star, disabled], FLEET, "hub-1") == (
        ("star", "hub-1+spoke-1"),
        ("star", "hub-1+spoke-2"),
    )
    assert retained(entries, (), [], FLEET, "hub-1") == ()
    assert retained(entries, (), [published("star", protect="off", **STAR)], without, "hub-1") == ()


def test_a_revoked_peer_itself_keeps_its_own_traffic_protected() -> None:
    star = published("star", **STAR)
    mine = [held("star", "hub-1+spoke-1", "hub-1")]
    assert retained(mine, (), [star], directory(HUB, SPOKE_2), "spoke-1") == (("star", "hub-1+spoke-1"),)


def test_a_tunnel_that_its_policy_no_longer_requests_is_deleted() -> None:
    spec = {"name": "t", "ends": [{"peer": "hub-1"}, {"peer": "spoke-1"}]}
    policy = published("p", tunnels=[spec])
    assert retained([held("p", "t", "spoke-1")], (), [policy], directory(HUB), "hub-1") == (("p", "t"),)
    other = published("p", tunnels=[{**spec, "name": "u"}])
    assert retained([held("p", "t", "spoke-1")], (), [other], FLEET, "hub-1") == ()
    untagged = directory(HUB, record("spoke-1", 11))
    assert (
        retained([held("star", "hub-1+spoke-1", "spoke-1")], (), [published("star", **STAR)], untagged, "hub-1") == ()
    )


def test_policies_that_contradict_each_other_on_one_tunnel_are_refused_at_the_field() -> None:
    policies = (published("a", **STAR), published("b", priority=200, protect="off", **STAR))
    (finding,) = [it for it in check(policies, FLEET, TAGS) if it.code is Code.PROTECT]
    assert (finding.severity, finding.field) == (Severity.ERROR, "policies/0/protect")
    assert "`protect: off`" in finding.message
    assert "set the same in both" in finding.message
    assert "hub-1+spoke-1" in finding.message


def test_policies_that_contradict_each_other_on_overlapping_traffic_are_reported() -> None:
    wide = [{"peer": "hub-1"}, {"peer": "spoke-1", "subnets": ["10.50.0.0/16"]}]
    narrow = [{"peer": "hub-1"}, {"peer": "spoke-2", "subnets": ["10.50.1.0/24"]}]
    policies = (
        published("a", tunnels=[{"name": "wide", "ends": wide}]),
        published("b", tunnels=[{"name": "narrow", "ends": narrow}], protect="off"),
    )
    found = [it for it in check(policies, FLEET, TAGS) if it.code is Code.PROTECT]
    assert {(it.severity, it.field) for it in found} == {(Severity.WARNING, "policies/1/protect")}
    assert "the tunnel wide of policy a protects" in found[0].message


def test_selectors_that_cannot_be_protected_are_reported() -> None:
    child = {"name": "l2tp", "ts": [["dynamic[udp/1701]"], ["dynamic[udp/1701]"]]}
    ends = [{"peer": "hub-1"}, {"peer": "spoke-1", "addresses": ["gw.example.org"]}]
    policy = published("a", tunnels=[{"name": "t", "ends": ends, "children": [child]}])
    found = [it for it in check([policy], FLEET, TAGS) if it.code is Code.PROTECT]
    assert [(it.severity, it.field) for it in found] == [(Severity.WARNING, "policies/0/protect")]
    off = published("a", protect="off", tunnels=[{"name": "t", "ends": ends, "children": [child]}])
    assert not [it for it in check([off], FLEET, TAGS) if it.code is Code.PROTECT]


@pytest.mark.parametrize("value", [-1, "forever", True, 40_000_000, 1.5, None])
def test_a_wrong_time_after_deletion_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="seconds from 0 to 31,536,000, or `keep`"):
        published("a", protect_after_delete=value, **STAR)
    assert published("a", protect_after_delete="keep", **STAR).policy.protect_after_delete == "keep"


def test_networks_of_a_policy_are_protected_for_a_peer_that_is_not_in_the_directory() -> None:
    spec = {"name": "t", "ends": [{"peer": "hub-1"}, {"peer": "spoke-9", "subnets": ["10.9.0.0/16"]}]}
    (entry,) = of("hub-1", published("p", tunnels=[spec])).values()
    assert texts(entry) == [(["10.0.1.0/24"], [str(ip_network("10.9.0.0/16"))])]
