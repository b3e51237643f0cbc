"""What `check` finds in a policy's authentication, lifetimes, children and virtual addresses."""

from typing import Any

import pytest

from warren_contracts.peers import DriverCapabilities
from warren_intent.expand import expand
from warren_intent.findings import Code, Severity, errors
from warren_testkit.check import FLEET, findings, only
from warren_testkit.intent import directory, published, record

STAR: dict[str, Any] = {"hubs": ["tag=hub"], "spokes": ["tag=branch"]}


@pytest.mark.parametrize(
    "auth",
    [
        {"kind": "psk", "secret": "branch-psk"},
        {"kind": "certificate", "authority": "corp"},
        {"kind": "eap", "method": "eap-mschapv2", "secret": "laptops"},
    ],
)
def test_authentication_that_needs_secrets_is_refused_and_derives_no_tunnel(auth: dict[str, str]) -> None:
    policy = published("a", auth=auth, **STAR)
    assert only(errors(findings(policy)), Code.UNSUPPORTED).field == "policies/0/auth"
    assert expand([policy], FLEET, "hub-1") == ()


def test_lifetimes_are_derived_from_the_one_that_is_stated() -> None:
    options = {"child": {"rekey_time": 20_000}}
    found = findings(published("a", crypto={"profile": "bsi-tr-02102-3"}, options=options, **STAR))
    assert only(found, Code.DOUBTFUL_OPTION).field == "policies/0/options/child/life_time"


def test_children_that_claim_the_same_traffic_are_refused() -> None:
    children: list[dict[str, Any]] = [
        {"name": "web", "protocol": "tcp"},
        {"name": "https", "protocol": "tcp", "ports": [443, 443]},
    ]
    able = DriverCapabilities(features=("selectors",))
    fleet = {peer: it.model_copy(update={"drivers": (able,)}) for peer, it in FLEET.items()}
    found = errors(findings(published("a", children=children, **STAR), fleet=fleet))
    assert only(found, Code.OVERLAP).field == "policies/0/children/1"
    children[0]["protocol"] = "udp"
    assert findings(published("a", children=children, **STAR), fleet=fleet) == ()
    finding = only(findings(published("a", children=children, **STAR)), Code.UNSUPPORTED)
    assert (finding.field, "selectors is unknown" in finding.message) == ("policies/0/children", True)


def test_pools_of_several_hubs_are_refused_and_overlaps_are_warned_of() -> None:
    fleet = FLEET | directory(record("hub-2", 2, "hub"))
    pools = published("a", pools=["10.0.11.0/25"], **STAR)
    assert only(errors(findings(pools, fleet=fleet)), Code.OVERLAP).field == "policies/0/topology/pools"
    finding = only(findings(pools), Code.OVERLAP)
    assert (finding.severity, finding.field) == (Severity.WARNING, "policies/0/topology/pools/0")
    assert "spoke-1" in finding.message


def test_xfrm_is_of_the_end_that_it_is_given_at_and_needs_its_driver() -> None:
    able = DriverCapabilities(features=("mark",))
    tunnel = {
        "name": "t",
        "ends": [
            {"peer": "hub-1", "xfrm": {"mark_in": 16, "mark_in_mask": 255, "set_mark_out": 3}},
            {"peer": "spoke-1"},
        ],
    }
    policy = published("a", tunnels=[tunnel])
    fleet = FLEET | {"hub-1": FLEET["hub-1"].model_copy(update={"drivers": (able,)})}
    assert findings(policy, fleet=fleet) == ()
    (at_hub,), (at_spoke,) = (expand([policy], fleet, peer) for peer in ("hub-1", "spoke-1"))
    own, other = at_hub.link.xfrm, at_spoke.link.xfrm
    assert (own.mark_in, own.mark_in_mask, own.set_mark_out) == (16, 255, 3)
    assert (other.mark_in, other.set_mark_out, other.mark_in_mask) == (0, 0, 0xFFFFFFFF)
    finding = only(findings(policy), Code.UNSUPPORTED)  # hub-1 has not reported its features
    assert finding.field == "policies/0/tunnels/0/ends/0/xfrm/mark_in"
