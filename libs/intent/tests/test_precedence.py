"""Two tunnels of one peer with common traffic: the longer prefix, the higher priority, interface ids and marks."""

from typing import Any

import pytest

from warren_contracts.peers import DriverCapabilities, PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_intent.check import check
from warren_intent.derivation import SkipCode
from warren_intent.expand import expand, explain
from warren_intent.findings import Code, Finding, Severity, errors
from warren_testkit.intent import directory, public_key, published, record

SHARED = ("10.0.0.0/16",)


def hubs(*priorities: int | None, **changes: Any) -> dict[str, PeerRecord]:
    """A branch and redundant hubs with these priorities."""
    gateways = [
        record(f"hub-{number}", number, "hub", **{"subnets": SHARED, "priority": priority, **changes})
        for number, priority in enumerate(priorities, start=1)
    ]
    return directory(record("office", 257, "branch", subnets=("10.100.0.0/24",)), *gateways)


STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])


def findings(policies: list[PublishedPolicy], fleet: dict[str, PeerRecord]) -> tuple[Finding, ...]:
    return check(policies, fleet, ("hub", "branch"))


def test_a_gateway_that_stands_by_knows_what_its_peer_uses_instead() -> None:
    fleet = hubs(100, 300, 200)
    found = {
        peer: dict(explain([STAR], fleet, peer).standbys_of_peers) for peer in ("hub-1", "hub-2", "hub-3", "office")
    }
    assert found == {
        "hub-1": {"hub-1+office": "hub-2+office"}, "hub-2": {}, "hub-3": {"hub-3+office": "hub-2+office"}, "office": {},
    }  # fmt: skip


def test_the_gateway_of_the_highest_priority_is_used_and_the_others_stand_by() -> None:
    fleet = hubs(100, 300, 200)
    standing = {it.name: (it.standby_of, it.initiator, it.auto_start) for it in expand([STAR], fleet, "office")}
    assert standing == {
        "hub-1+office": (("hub-2+office", "hub-3+office"), True, True),
        "hub-2+office": ((), True, True),
        "hub-3+office": (("hub-2+office",), True, True),
    }
    found = findings([STAR], fleet)
    assert not errors(found)
    said = [it.message for it in found if it.code is Code.PRECEDENCE]
    assert (
        "at peer office, standby of hub-2+office: hub-1+office, hub-3+office (the priority of hub-2, 300, is higher)"
        in said
    )


def test_a_redundant_gateway_never_starts_the_tunnel_and_sees_it_alike_from_its_own_record_only() -> None:
    fleet = hubs(100, 200)
    for hub in ("hub-1", "hub-2"):
        own = {peer: fleet[peer] for peer in ("office", hub)}  # a hub does not read the records of other hubs
        (tunnel,) = expand([STAR], own, hub)
        assert expand([STAR], fleet, hub) == (tunnel,)
        assert (tunnel.initiator, tunnel.auto_start) == (False, False)


@pytest.mark.parametrize("priorities", [(None, None), (200, None), (200, 200)])
def test_a_missing_or_equal_priority_is_named_with_the_remedy(priorities: tuple[int | None, int | None]) -> None:
    fleet = hubs(*priorities)
    (conflict,) = (it for it in findings([STAR], fleet) if it.code is Code.OVERLAP)
    assert "claim the same traffic" in conflict.message
    assert "give them different priorities (`warren peers priority hub-1 200`)" in conflict.message
    assert [it.name for it in expand([STAR], fleet, "office")] == ["hub-1+office"]


def test_a_policy_that_gives_one_network_to_two_gateways_is_refused_without_priorities() -> None:
    given = published(
        "given",
        tunnels=[
            {"name": f"to-{hub}", "ends": [{"peer": "office"}, {"peer": hub, "subnets": list(SHARED)}]}
            for hub in ("hub-1", "hub-2")
        ],
    )
    assert {it.code for it in errors(findings([given], hubs(None, None)))} == {Code.OVERLAP}
    fleet = hubs(100, 200)
    assert not errors(findings([given], fleet))
    standby_of = {it.name: it.standby_of for it in expand([given], fleet, "office")}
    assert standby_of == {"to-hub-1": ("to-hub-2",), "to-hub-2": ()}


def test_redundancy_at_both_ends_is_refused() -> None:
    fleet = hubs(100, 200) | directory(record("office", 257, "branch", subnets=("10.100.0.0/24",), priority=5))
    (conflict,) = (it for it in findings([STAR], fleet) if it.code is Code.OVERLAP)
    assert "remove the priority of office" in conflict.message


def test_redundant_gateways_of_one_network_have_no_tunnel_with_each_other() -> None:
    mesh = published("mesh", members=["tag=hub"])
    (skipped,) = explain([mesh], hubs(100, 200), "hub-1").skipped
    assert (skipped.code, skipped.message) == (
        SkipCode.CONFLICT,
        "hub-1 and hub-2 are redundant gateways of the same networks",
    )


def test_a_redundant_gateway_needs_a_fixed_address() -> None:
    (skipped,) = explain([STAR], hubs(100, endpoints=()), "office").skipped
    assert skipped.code is SkipCode.NO_ADDRESS
    assert "remove its priority" in skipped.message


def test_a_network_that_only_the_standby_protects_is_reported() -> None:
    fleet = hubs(200, 100)
    fleet["hub-2"] = record("hub-2", 2, "hub", subnets=(*SHARED, "10.77.0.0/24"), priority=100)
    said = [it.message for it in findings([STAR], fleet) if "10.77.0.0/24" in it.message]
    assert said == ["while hub-1+office is up, hub-2+office does not carry 10.77.0.0/24: hub-1 does not protect it"]


def test_of_nested_networks_the_longer_prefix_wins_where_its_gateway_has_the_higher_priority() -> None:
    fleet = hubs(100, 200)
    fleet["hub-2"] = record("hub-2", 2, "hub", subnets=("10.0.7.0/24",), priority=200)
    assert {it.name: it.standby_of for it in expand([STAR], fleet, "office")} == {
        "hub-1+office": (),
        "hub-2+office": (),
    }
    fleet["hub-2"] = record("hub-2", 2, "hub", subnets=("10.0.7.0/24",), priority=50)
    standby_of = {it.name: it.standby_of for it in expand([STAR], fleet, "office")}
    assert standby_of == {"hub-1+office": (), "hub-2+office": ("hub-1+office",)}


def to_everything(**fields: Any) -> dict[str, Any]:
    return {"name": "all", "ends": [{"peer": "spoke"}, {"peer": "hub", "subnets": ["0.0.0.0/0"]}], **fields}


def test_all_traffic_to_the_hub_and_one_network_directly() -> None:
    fleet = directory(*(record(name, number) for number, name in enumerate(("spoke", "hub", "branch"))))
    policy = published(
        "p", tunnels=[to_everything(), {"name": "direct", "ends": [{"peer": "spoke"}, {"peer": "branch"}]}]
    )
    found = findings([policy], fleet)
    assert not errors(found)
    said = [it.message for it in found if it.code is Code.PRECEDENCE]
    assert said == ["at peer spoke the tunnel direct carries part of the traffic of all: the longer prefix wins"]
    assert [it.name for it in expand([policy], fleet, "spoke")] == ["all", "direct"]
    assert [it.name for it in expand([policy], fleet, "hub")] == ["all"]


def test_an_announcement_never_narrows_a_network_that_a_policy_gives() -> None:
    ends = [{"peer": "spoke"}, {"peer": "hub", "subnets": ["10.0.0.0/8"]}]
    given = published("given", priority=1, tunnels=[{"name": "given", "ends": ends}])
    star = published("star", priority=300, hubs=["peer=spoke"], spokes=["peer=evil"])
    fleet = directory(record("spoke", 1, subnets=("172.16.0.0/24",)), record("hub", 2), record("evil", 3))
    assert [it.name for it in expand([given, star], fleet, "spoke")] == ["given"]


def route_based(number: int, **xfrm: int) -> dict[str, Any]:
    other = {
        "identity": f"aws-{number}", "public_key": public_key(f"aws-{number}"), "subnets": ["0.0.0.0/0"],
        "addresses": [f"203.0.113.{number}"],
    }  # fmt: skip
    return {"name": f"aws-{number}", "ends": [{"peer": "hub", "subnets": ["0.0.0.0/0"], "xfrm": xfrm}, other]}


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ({"if_id_in": 41, "if_id_out": 41}, {"if_id_in": 42, "if_id_out": 42}, True),
        ({"mark_in": 1, "mark_out": 1}, {"mark_in": 2, "mark_out": 2}, True),
        ({"if_id_in": 41, "if_id_out": 41}, {"if_id_in": 41, "if_id_out": 42}, False),  # inbound packets have one id
        ({"if_id_in": 41, "if_id_out": 41}, {"if_id_in": 41, "if_id_out": 41}, False),
        ({"mark_in": 1, "mark_out": 1}, {}, False),  # a policy without a mark matches every packet
        ({"mark_in": 1, "mark_in_mask": 1, "mark_out": 1, "mark_out_mask": 1}, {"mark_in": 3, "mark_out": 3}, False),
    ],
)
def test_route_based_tunnels_compete_only_where_interface_ids_and_marks_are_equal(
    first: dict[str, int], second: dict[str, int], apart: bool
) -> None:
    able = DriverCapabilities(features=("if_id", "mark"))
    fleet = directory(record("hub", 1, driver=able))
    policy = published("aws", tunnels=[route_based(1, **first), route_based(2, **second)])
    assert (not errors(findings([policy], fleet))) is apart
    assert len(expand([policy], fleet, "hub")) == (2 if apart else 1)


def test_interface_ids_of_a_peer_whose_daemon_has_not_answered_are_a_warning() -> None:
    policy = published("aws", tunnels=[route_based(1, if_id_in=41, if_id_out=41)])
    (found,) = (it for it in findings([policy], directory(record("hub", 1))) if it.code is Code.UNSUPPORTED)
    assert (found.severity, found.field) == (Severity.WARNING, "policies/0/tunnels/0/ends/0/xfrm/if_id_in")
    assert "unknown until its IPsec daemon has answered" in found.message
    unable = directory(record("hub", 1, driver=DriverCapabilities(features=("mark",))))
    (found,) = (it for it in findings([policy], unable) if it.code is Code.UNSUPPORTED)
    assert found.severity is Severity.ERROR


def test_transport_mode_of_an_address_that_is_no_endpoint_names_the_cause() -> None:
    able = DriverCapabilities().model_copy(update={"features": ("transport",)})
    fleet = directory(record("hub", 1, driver=able), record("spoke", 2, driver=able))
    ends = [{"peer": "hub", "subnets": ["10.9.9.9/32"]}, {"peer": "spoke", "subnets": ["198.18.0.2/32"]}]
    policy = published("p", tunnels=[{"name": "t", "ends": ends, "options": {"child": {"mode": "transport"}}}])
    (found,) = errors(findings([policy], fleet))
    assert "10.9.9.9 is none of the addresses of hub (198.18.0.1)" in found.message
