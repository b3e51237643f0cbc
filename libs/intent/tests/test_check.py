"""What `check` refuses and what it warns of: each with the field's path and a remedy."""

from ipaddress import ip_network
from typing import Any

import pytest

from warren_contracts.peers import DriverCapabilities
from warren_intent.check import check
from warren_intent.findings import Code, Severity, errors
from warren_testkit.check import FLEET, TAGS, explicit, findings, fleet_with, only
from warren_testkit.intent import directory, public_key, published, record

STAR: dict[str, Any] = {"hubs": ["tag=hub"], "spokes": ["tag=branch"]}


def test_an_unknown_tag_is_reported_at_its_field() -> None:
    wrong = published("b", hubs=["tag=hub", "tag=hubb"], spokes=["tag=branch"], priority=1)
    finding = only(findings(published("a", **STAR), wrong), Code.UNKNOWN_TAG)
    assert finding.field == "policies/1/topology/hubs/1"
    assert "hubb" in finding.message
    assert finding.severity is Severity.ERROR


def test_a_tag_of_a_join_token_is_known_and_a_policy_without_tunnels_says_so() -> None:
    (finding,) = check([published("a", hubs=["tag=hub"], spokes=["tag=new"])], FLEET, (*TAGS, "new"))
    assert (finding.code, finding.severity, finding.field) == (Code.NO_TUNNEL, Severity.WARNING, "policies/0/topology")


def test_unknown_and_withdrawn_peers_are_named_where_they_stand() -> None:
    policy = published("a", tunnels=[explicit("t", "hub-1", "ghost")], applies_to=["peer=spoke-9"])
    assert {it.field for it in errors(findings(policy))} == {
        "policies/0/tunnels/0/ends/1/peer",
        "policies/0/applies_to/0",
    }
    withdrawn = fleet_with("spoke-1", withdrawn=True)
    policy = published("a", hubs=["tag=hub"], spokes=["peer=spoke-1"])
    assert only(findings(policy, fleet=withdrawn), Code.UNKNOWN_PEER).field == "policies/0/topology/spokes/0"


@pytest.mark.parametrize(
    ("topology", "field"),
    [
        ({"sites": ["peer=hub-1", "peer=hub-1"]}, "sites/1"),
        ({"members": ["peer=hub-1"]}, "members/0"),
        ({"members": ["peer=hub-1", "peer=hub-1"]}, "members/1"),
        ({"hubs": ["peer=hub-1"], "spokes": ["peer=hub-1"]}, "spokes/0"),
    ],
)
def test_a_topology_of_one_peer_is_refused_where_the_other_should_stand(topology: dict[str, Any], field: str) -> None:
    finding = only(findings(published("a", **topology)), Code.ONE_MEMBER)
    assert (finding.severity, finding.field) == (Severity.ERROR, f"policies/0/topology/{field}")
    assert "two peers" in finding.message


def test_a_site_with_itself_is_a_mesh_of_its_members() -> None:
    assert findings(published("a", sites=["tag=branch", "tag=branch"])) == ()


def test_what_is_given_twice_is_warned_of_where_it_repeats() -> None:
    policy = published("a", members=["peer=hub-1", "tag=branch", "peer=hub-1"], applies_to=["all", "all"])
    reported = {(it.field, it.severity) for it in findings(policy) if it.code is Code.REPEATED}
    assert reported == {
        ("policies/0/topology/members/2", Severity.WARNING), ("policies/0/applies_to/1", Severity.WARNING)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "option", "says"),
    [
        ({"ike": {"version": 1}}, "ike/version", "IKEv2"),
        ({"ike": {"ppk_required": True}}, "ike/ppk_required", "without one"),
        ({"child": {"dpd_action": "trap"}}, "child/dpd_action", "clear or restart"),
        ({"ike": {"reauth_time": 1}}, "ike/reauth_time", "at least 300"),
        ({"ike": {"reauth_time": 299}}, "ike/reauth_time", "at least 300"),
        ({"child": {"mode": "transport"}}, "child/mode", "mode"),
        ({"child": {"mode": "beet"}}, "child/mode", "mode"),
        ({"child": {"hw_offload": "packet"}}, "child/hw_offload", "hw_offload-packet"),
    ],
)
def test_an_option_that_no_driver_would_apply_is_refused(options: dict[str, Any], option: str, says: str) -> None:
    able = DriverCapabilities().model_copy(update={"features": ("transport", "beet", "hw_offload")})
    fleet = {peer: it.model_copy(update={"drivers": (able,)}) for peer, it in FLEET.items()}
    finding = only(findings(published("a", options=options, **STAR), fleet=fleet), Code.UNSUPPORTED)
    assert (finding.severity, finding.field) == (Severity.ERROR, f"policies/0/options/{option}")
    assert says in finding.message
    tunnel = explicit("t", "hub-1", "spoke-1", options=options)
    found = errors(findings(published("a", tunnels=[tunnel]), fleet=fleet))
    assert {it.field for it in found} == {f"policies/0/tunnels/0/options/{option}"}


def test_reauthentication_may_be_off_or_rare() -> None:
    for seconds in (0, 300, 86_400):
        assert findings(published("a", options={"ike": {"reauth_time": seconds}}, **STAR)) == ()


def test_an_option_of_ikev1_is_warned_of() -> None:
    found = findings(published("a", options={"ike": {"dpd_timeout": 90}}, **STAR))
    assert only(found, Code.DOUBTFUL_OPTION).field == "policies/0/options/ike/dpd_timeout"
    assert not errors(found)


@pytest.mark.parametrize(
    "options", [{"child": {"mode": "transport"}}, {"child": {"hw_offload": "packet"}}, {"ike": {"childless": "prefer"}}]
)
def test_an_option_is_refused_while_an_end_has_not_reported_its_features(options: dict[str, Any]) -> None:
    hosts = {
        peer: it.model_copy(update={"subnets": (ip_network(str(it.endpoints[0].host)),)}) for peer, it in FLEET.items()
    }
    found = [it for it in findings(published("a", options=options, **STAR), fleet=hosts) if "is unknown" in it.message]
    assert {it.code for it in found} == {Code.UNSUPPORTED}
    assert all(peer in found[0].message for peer in FLEET)
    assert findings(published("a", options={"ike": {"mobike": True}}, **STAR)) == ()


def test_transport_is_for_two_hosts() -> None:
    able = DriverCapabilities().model_copy(update={"features": ("transport",)})
    hosts = {
        peer: it.model_copy(update={"subnets": (ip_network(str(it.endpoints[0].host)),), "drivers": (able,)})
        for peer, it in FLEET.items()
    }
    policy = published("a", options={"child": {"mode": "transport"}}, **STAR)
    assert findings(policy, fleet=hosts) == ()
    moved = hosts | {"spoke-1": hosts["spoke-1"].model_copy(update={"subnets": (ip_network("10.0.0.1/32"),)})}
    finding = only(findings(policy, fleet=moved), Code.UNSUPPORTED)
    assert (finding.severity, finding.message.split()[0]) == (
        Severity.WARNING,
        "spoke-1:",
    )  # announced by the peer itself: only its tunnel is omitted
    ends = [{"peer": "hub-1", "subnets": ["10.0.0.0/24"]}, {"peer": "spoke-1"}]
    stated = published("a", tunnels=[{"name": "t", "ends": ends, "options": {"child": {"mode": "transport"}}}])
    assert only(findings(stated, fleet=hosts), Code.UNSUPPORTED).severity is Severity.ERROR


def test_equal_priorities_for_the_same_pairs_are_one_tie() -> None:
    finding = only(findings(published("a", **STAR), published("b", **STAR)), Code.TIE)
    assert finding.field == "policies/1/priority"
    assert "hub-1+spoke-1" in finding.message
    assert "policy a" in finding.message
    assert findings(published("a", **STAR), published("b", priority=101, **STAR)) == ()
    assert findings(published("a", **STAR), published("b", enabled=False, **STAR)) == ()


def test_two_explicit_tunnels_between_the_same_ends_are_a_tie() -> None:
    tunnels = [explicit("t1", "hub-1", "spoke-1"), explicit("t2", "spoke-1", "hub-1")]
    assert only(findings(published("a", tunnels=tunnels)), Code.TIE).field == "policies/0/tunnels/1"


def test_a_name_between_other_peers_is_refused_whatever_the_priority() -> None:
    first = published("a", tunnels=[explicit("t", "hub-1", "spoke-1")])
    second = published("b", tunnels=[explicit("t", "hub-1", "spoke-2")], priority=500)
    assert only(findings(first, second), Code.NAME_TAKEN).field == "policies/0/tunnels/0/name"


def test_incomplete_peers_are_warned_of_together() -> None:
    fleet = directory(FLEET["hub-1"], *(record(f"s{n}", 20 + n, "branch", public_key=None) for n in range(9)))
    finding = only(findings(published("a", **STAR), fleet=fleet), Code.INCOMPLETE_PEER)
    assert finding.severity is Severity.WARNING
    assert "and 6 more" in finding.message
    assert "public key" in finding.message


def test_two_dynamic_ends_are_warned_of() -> None:
    fleet = directory(record("hub-1", 1, "hub", endpoints=()), record("spoke-1", 2, "branch", endpoints=()))
    star = only(findings(published("a", **STAR), fleet=fleet), Code.NO_ADDRESS)
    assert star.severity is Severity.WARNING
    tunnel = published("a", tunnels=[explicit("t", "hub-1", "spoke-1")])
    finding = only(findings(tunnel, fleet=fleet), Code.NO_ADDRESS)
    assert (finding.severity, finding.field) == (Severity.WARNING, "policies/0/tunnels/0")


def test_tunnel_that_its_peer_would_refuse_because_it_may_not_be_passed_by_is_a_warning() -> None:
    ends = [{"peer": "hub-1", "subnets": ["0.0.0.0/0"]}, {"peer": "spoke-1"}]
    wide: dict[str, Any] = {"tunnels": [{"name": "wide", "ends": ends}]}
    assert not [it for it in findings(published("a", **wide)) if it.code is Code.BYPASS]
    finding = only(findings(published("a", bypass="forbid", **wide)), Code.BYPASS)
    assert (finding.severity, finding.field) == (Severity.WARNING, "policies/0/bypass")
    assert "wide: peer spoke-1 refuses it, since it contains the peer's own network 10.0.11.0/24" in finding.message
    assert not [it for it in findings(published("a", bypass="forbid", **STAR)) if it.code is Code.BYPASS]


def test_two_policies_of_one_tunnel_with_another_bypass_are_refused() -> None:
    found = findings(published("a", priority=200, **STAR), published("b", bypass="forbid", **STAR))
    assert "`bypass: allow`" in only(errors(found), Code.BYPASS).message


def test_peers_that_protect_the_same_network_are_refused() -> None:
    fleet = fleet_with("spoke-1", subnets=FLEET["hub-1"].subnets)
    found = findings(published("a", **STAR), fleet=fleet)
    assert "subnets of both ends overlap" in only(found, Code.OVERLAP).message


def test_two_tunnels_that_claim_the_same_traffic_are_refused() -> None:
    fleet = fleet_with("spoke-2", subnets=FLEET["spoke-1"].subnets)
    finding = only(findings(published("a", **STAR), fleet=fleet), Code.OVERLAP)
    assert "hub-1+spoke-1" in finding.message
    assert "hub-1+spoke-2" in finding.message


def test_transit_through_two_hubs_is_refused() -> None:
    fleet = FLEET | directory(record("hub-2", 2, "hub"))
    assert findings(published("a", **STAR), fleet=fleet) == ()
    found = findings(published("a", transit=True, **STAR), fleet=fleet)
    assert {it.code for it in errors(found)} == {Code.OVERLAP}


def test_a_default_route_is_warned_of() -> None:
    fleet = fleet_with("hub-1", subnets=record("x", 1, subnets=("0.0.0.0/0",)).subnets)
    found = findings(published("a", hubs=["tag=hub"], spokes=["peer=spoke-1"]), fleet=fleet)
    assert only(found, Code.DEFAULT_ROUTE).severity is Severity.WARNING


def test_ends_without_a_common_family_are_refused() -> None:
    fleet = fleet_with("hub-1", subnets=record("x", 1, subnets=("2001:db8::/48",)).subnets)
    assert (
        "IPv4 subnets only"
        in findings(published("a", hubs=["tag=hub"], spokes=["peer=spoke-1"]), fleet=fleet)[0].message
    )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"ike": {"mobike": True}}, "ike/mobike"),
        ({"child": {"mode": "transport"}}, "child/mode"),
        ({"child": {"hw_offload": "packet"}}, "child/hw_offload"),
    ],
)
def test_an_option_that_a_driver_cannot_do_is_refused(options: dict[str, Any], field: str) -> None:
    fleet = fleet_with("spoke-1", drivers=(DriverCapabilities(features=("esn", "hw_offload")),))
    found = findings(published("a", options=options, **STAR), fleet=fleet)
    (finding,) = [it for it in found if "is not supported" in it.message and "networks" not in it.message]
    assert finding.field == f"policies/0/options/{field}"
    assert finding.message.startswith("spoke-1: ")


@pytest.mark.parametrize("spelling", ["spoke-1", "SPOKE-1", "@spoke-1", "fqdn:Spoke-1", "dns:spoke-1."])
def test_one_identity_of_two_peers_is_refused(spelling: str) -> None:
    found = findings(published("a", **STAR), fleet=fleet_with("spoke-2", identity=spelling))
    assert "same IKE identity" in only(found, Code.DUPLICATE_IDENTITY).message


def test_a_mesh_beyond_all_measure_is_refused_at_once() -> None:
    fleet = directory(*(record(f"p{n}", n, "branch") for n in range(5_000)))
    finding = only(findings(published("a", members=["tag=branch"]), fleet=fleet), Code.TOO_LARGE)
    assert finding.field == "policies/0/topology"


def test_a_foreign_gateway_is_checked_with_the_one_end_that_is_ours() -> None:
    end = {"addresses": ["203.0.113.9"], "identity": "partner", "subnets": ["172.16.0.0/24"]}
    tunnel = {"name": "t", "ends": [{"peer": "hub-1"}, {**end, "public_key": public_key("partner")}]}
    assert findings(published("a", tunnels=[tunnel]), fleet=fleet_with("hub-1", drivers=(DriverCapabilities(),))) == ()


HOSTILE = [
    {"drivers": (DriverCapabilities(ike=("nonsense",)),)},
    {"drivers": (DriverCapabilities(esp=("nonsense",), features=("nonsense",)),)},
    {"subnets": record("x", 1).subnets},
    {"subnets": record("x", 11).subnets},
    {"subnets": record("x", 1, subnets=("fd00::/48",)).subnets},
    {"identity": "@HUB-1"},
    {"endpoints": (), "subnets": (), "keys": ()},
]


@pytest.mark.parametrize("changes", HOSTILE)
@pytest.mark.parametrize("options", [{}, {"child": {"hw_offload": "packet"}}])
def test_what_one_peer_says_refuses_no_policy(changes: dict[str, Any], options: dict[str, Any]) -> None:
    able = DriverCapabilities(features=("hw_offload", "hw_offload-packet"))
    fleet = {peer: it.model_copy(update={"drivers": (able,)}) for peer, it in FLEET.items()}
    fleet["spoke-2"] = fleet["spoke-2"].model_copy(update=changes)
    tunnel = {"name": "t", "ends": [{"peer": "hub-1", "subnets": ["10.0.1.0/24"]}, {"peer": "spoke-2"}]}
    for policy in (published("a", options=options, **STAR), published("a", options=options, tunnels=[tunnel])):
        found = findings(policy, fleet=fleet)
        assert errors(found) == ()
        assert found or policy.policy.tunnels  # reported where it matters
