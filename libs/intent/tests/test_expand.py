"""What policies come to: explicit tunnels and topologies, priorities, roles, and what is left out and why."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from warren_contracts.peers import Capabilities
from warren_contracts.policy import Policy
from warren_contracts.tunnel import TunnelConfig
from warren_intent.derivation import SkipCode
from warren_intent.expand import expand, explain
from warren_intent.testing import directory, public_key, published, record

HUB = record("hub-1", 1, "hub")
SPOKE_1 = record("spoke-1", 11, "branch", endpoints=())
SPOKE_2 = record("spoke-2", 12, "branch")
FLEET = directory(HUB, SPOKE_1, SPOKE_2)
STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])


def only(tunnels: tuple[TunnelConfig, ...]) -> TunnelConfig:
    assert len(tunnels) == 1
    return tunnels[0]


def test_hub_spoke_gives_each_spoke_one_tunnel_and_the_hub_all() -> None:
    assert [tunnel.name for tunnel in expand([STAR], FLEET, "hub-1")] == ["hub-1+spoke-1", "hub-1+spoke-2"]
    tunnel = only(expand([STAR], FLEET, "spoke-1"))
    assert tunnel.peer == "hub-1"
    assert tunnel.local_ts == SPOKE_1.subnets
    assert tunnel.remote_ts == HUB.subnets
    assert tunnel.remote_addrs == HUB.endpoints
    assert tunnel.local_addrs == ()
    assert tunnel.local_auth.public_key == public_key("spoke-1")
    assert tunnel.remote_auth.identity == "hub-1"


def test_an_expanded_tunnel_is_valid_as_if_it_had_been_parsed() -> None:
    for tunnel in expand([STAR], FLEET, "hub-1"):
        assert TunnelConfig.model_validate_json(tunnel.model_dump_json()) == tunnel


def test_the_spoke_initiates_even_when_its_id_is_higher_and_it_has_an_address() -> None:
    assert only(expand([STAR], FLEET, "spoke-2")).initiator
    assert [tunnel.initiator for tunnel in expand([STAR], FLEET, "hub-1")] == [False, False]


def test_a_hub_without_address_calls_its_spoke() -> None:
    fleet = directory(record("hub-1", 1, "hub", endpoints=()), SPOKE_2)
    assert only(expand([STAR], fleet, "hub-1")).initiator
    assert not only(expand([STAR], fleet, "spoke-2")).initiator


def test_the_end_without_fixed_address_initiates_else_the_lower_id() -> None:
    mesh = published("mesh", members=["all"])
    fleet = directory(record("a", 1), record("b", 2, endpoints=()), record("c", 3))
    assert [(it.peer, it.initiator) for it in expand([mesh], fleet, "a")] == [("b", False), ("c", True)]
    assert [(it.peer, it.initiator) for it in expand([mesh], fleet, "c")] == [("a", False), ("b", False)]


def test_two_dynamic_ends_have_no_tunnel_and_it_says_why() -> None:
    fleet = directory(record("hub-1", 1, "hub", endpoints=()), SPOKE_1)
    explained = explain([STAR], fleet, "hub-1")
    assert explained.tunnels == ()
    assert [(it.name, it.code) for it in explained.skipped] == [("hub-1+spoke-1", SkipCode.NO_ADDRESS)]


@pytest.mark.parametrize(
    ("change", "code"),
    [({"public_key": None}, SkipCode.NO_PUBLIC_KEY), ({"subnets": ()}, SkipCode.NO_SUBNETS)],
)
def test_a_peer_that_lacks_something_has_no_tunnel(change: dict[str, object], code: SkipCode) -> None:
    explained = explain([STAR], directory(HUB, record("spoke-1", 11, "branch", **change)), "hub-1")
    assert explained.tunnels == ()
    assert [it.code for it in explained.skipped] == [code]
    assert "spoke-1" in explained.skipped[0].message


def test_withdrawn_and_unrelated_peers_have_no_tunnel() -> None:
    fleet = directory(HUB, record("spoke-1", 11, "branch", withdrawn=True), record("other", 20))
    assert expand([STAR], fleet, "hub-1") == ()
    assert expand([STAR], fleet, "spoke-1") == ()
    assert expand([STAR], fleet, "other") == ()
    assert expand([STAR], fleet, "nobody") == ()


def test_a_disabled_policy_does_nothing() -> None:
    assert expand([published("star", hubs=["tag=hub"], spokes=["tag=branch"], enabled=False)], FLEET, "hub-1") == ()


def test_the_highest_revision_of_a_policy_counts() -> None:
    emptied = published("star", revision=2, hubs=["tag=hub"], spokes=["tag=nobody"])
    assert expand([emptied, STAR], FLEET, "hub-1") == expand([STAR, emptied], FLEET, "hub-1") == ()


def test_a_peer_in_both_roles_has_no_tunnel_with_itself() -> None:
    fleet = directory(record("a", 1, "hub", "branch"), record("b", 2, "hub", "branch"), record("c", 3, "branch"))
    assert [it.name for it in expand([STAR], fleet, "a")] == ["a+b", "a+c"]
    a_to_b, b_to_a = (expand([STAR], fleet, me)[0] for me in "ab")
    assert (a_to_b.initiator, b_to_a.initiator) == (True, False)
    assert not expand([STAR], fleet, "a")[1].initiator


def test_the_higher_priority_wins_the_pair() -> None:
    strict = published("strict", hubs=["tag=hub"], spokes=["peer=spoke-1"], priority=200, crypto={"profile": "cnsa1"})
    for policies in ([STAR, strict], [strict, STAR]):
        first, second = expand(policies, FLEET, "hub-1")
        assert (first.policy, second.policy) == ("strict", "star")
        assert str(first.ike_proposals[0]) == "aes256gcm16-prfsha512-ecp384"
        assert only(expand(policies, FLEET, "spoke-1")).policy == "strict"
    assert [it.code for it in explain([STAR, strict], FLEET, "spoke-1").skipped] == [SkipCode.OVERRIDDEN]


def test_of_equal_priorities_the_lower_policy_id_wins_at_both_ends() -> None:
    tie = published("another", hubs=["tag=hub"], spokes=["tag=branch"])
    assert {it.policy for me in FLEET for it in expand([STAR, tie], FLEET, me)} == {"another"}


EXPLICIT = {
    "name": "office",
    "ends": [{"peer": "hub-1", "subnets": ["10.9.0.0/16"]}, {"peer": "spoke-2"}],
    "options": {"local_port": 4500, "remote_port": 500, "mobike": True},
    "crypto": {"ike": ["aes128gcm16-prfsha256-ecp256"]},
}


def test_an_explicit_tunnel_overrides_what_was_announced_and_mirrors_its_ports() -> None:
    policy = published("explicit", tunnels=[EXPLICIT])
    hub, spoke = only(expand([policy], FLEET, "hub-1")), only(expand([policy], FLEET, "spoke-2"))
    assert hub.name == spoke.name == "office"
    assert hub.local_ts == spoke.remote_ts == (ip_network("10.9.0.0/16"),)
    assert (hub.options.local_port, hub.options.remote_port) == (4500, 500)
    assert (spoke.options.local_port, spoke.options.remote_port) == (500, 4500)
    assert hub.options.mobike
    assert spoke.options.mobike
    assert [str(it) for it in hub.ike_proposals] == ["aes128gcm16-prfsha256-ecp256"]
    assert str(hub.esp_proposals[0]) == "aes256gcm16-x25519"
    assert (hub.initiator, spoke.initiator) == (True, False)


def test_an_explicit_tunnel_takes_precedence_over_the_topology_of_the_same_policy() -> None:
    policy = published("both", tunnels=[EXPLICIT], hubs=["tag=hub"], spokes=["tag=branch"])
    assert [it.name for it in expand([policy], FLEET, "hub-1")] == ["hub-1+spoke-1", "office"]


def foreign(**changes: object) -> dict[str, Any]:
    end = {"addresses": ["203.0.113.9"], "identity": "partner.example", "subnets": ["172.16.0.0/24"]}
    key = public_key("partner")
    return {"name": "partner", "ends": [{"peer": "hub-1"}, {**end, "public_key": key, **changes}]}


def test_a_foreign_gateway_is_called_when_it_has_an_address() -> None:
    tunnel = only(expand([published("partner", tunnels=[foreign()])], FLEET, "hub-1"))
    assert tunnel.peer is None
    assert tunnel.initiator
    assert tunnel.remote_addrs == (ip_address("203.0.113.9"),)
    assert tunnel.remote_auth.identity == "partner.example"


def test_a_foreign_gateway_without_address_is_waited_for() -> None:
    tunnel = foreign()
    del tunnel["ends"][1]["addresses"]
    assert not only(expand([published("partner", tunnels=[tunnel])], FLEET, "hub-1")).initiator


def test_transit_gives_the_hub_the_other_spokes_subnets() -> None:
    policy = published("star", hubs=["tag=hub"], spokes=["tag=branch"], transit=True)
    first, second = expand([policy], FLEET, "hub-1")
    assert first.local_ts == (*HUB.subnets, *SPOKE_2.subnets)
    assert second.local_ts == (*HUB.subnets, *SPOKE_1.subnets)
    assert only(expand([policy], FLEET, "spoke-1")).remote_ts == first.local_ts


def test_transit_sums_up_and_refuses_what_selectors_cannot_hold() -> None:
    policy = published("star", hubs=["tag=hub"], spokes=["tag=branch"], transit=True)
    dense = directory(HUB, *(record(f"s{n}", 256 + n, "branch") for n in range(256)))
    assert len(expand([policy], dense, "s7")[0].remote_ts) == 9
    sparse = directory(HUB, *(record(f"s{n}", 256 + 2 * n, "branch") for n in range(100)))
    assert {it.code for it in explain([policy], sparse, "hub-1").skipped} == {SkipCode.TOO_MANY_SELECTORS}


def test_an_unknown_profile_makes_no_tunnel_of_weaker_crypto() -> None:
    policy = published("star", hubs=["tag=hub"], spokes=["tag=branch"], crypto={"profile": "of-the-future"})
    assert {it.code for it in explain([policy], FLEET, "hub-1").skipped} == {SkipCode.UNKNOWN_PROFILE}


def test_a_policy_has_no_field_that_could_hold_a_secret() -> None:
    words = ("secret", "psk", "password", "private")
    schema = str(Policy.model_json_schema()["$defs"]).lower() + str(Policy.model_json_schema()["properties"]).lower()
    assert not [word for word in words if f"'{word}" in schema.replace("'psk', 'eap-mschapv2'", "")]


def test_proposals_that_an_end_cannot_express_are_left_out_at_both_ends() -> None:
    able = Capabilities(ike=("aes256gcm16", "prfsha384", "ecp384"), features=("mobike",))
    fleet = directory(HUB, record("spoke-1", 11, "branch", capabilities=able))
    policy = published(
        "star", hubs=["tag=hub"], spokes=["tag=branch"], crypto={"esp": ["aes256-sha256-x25519-esn"] * 2}
    )
    hub, spoke = (explain([policy], fleet, me) for me in ("hub-1", "spoke-1"))
    assert {it.code for it in (*hub.skipped, *spoke.skipped)} == {SkipCode.NO_COMMON_PROPOSAL}
    hub_end, spoke_end = (only(expand([STAR], fleet, me)) for me in ("hub-1", "spoke-1"))
    assert [str(it) for it in hub_end.ike_proposals] == ["aes256gcm16-prfsha384-ecp384"]
    assert hub_end.ike_proposals == spoke_end.ike_proposals
    assert len(hub_end.esp_proposals) == 3
