"""What policies come to: explicit tunnels and topologies, priorities, roles, and what is left out and why."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from warren_contracts.addresses import Endpoint
from warren_contracts.auth import RawKeyAuth
from warren_contracts.peers import DriverCapabilities
from warren_contracts.tunnel import Tunnel
from warren_intent.derivation import SkipCode
from warren_intent.expand import expand, explain
from warren_intent.links import selectors_of
from warren_testkit.intent import directory, public_key, published, record

HUB = record("hub-1", 1, "hub")
SPOKE_1 = record("spoke-1", 11, "branch", endpoints=())
SPOKE_2 = record("spoke-2", 12, "branch")
FLEET = directory(HUB, SPOKE_1, SPOKE_2)
STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])


def only(tunnels: tuple[Tunnel, ...]) -> Tunnel:
    assert len(tunnels) == 1
    return tunnels[0]


def test_hub_spoke_gives_each_spoke_one_tunnel_and_the_hub_all() -> None:
    assert [tunnel.name for tunnel in expand([STAR], FLEET, "hub-1")] == ["hub-1+spoke-1", "hub-1+spoke-2"]
    tunnel = only(expand([STAR], FLEET, "spoke-1"))
    assert tunnel.peer == "hub-1"
    assert tunnel.link.children[0].local_ts == selectors_of(SPOKE_1.subnets)
    assert tunnel.link.children[0].remote_ts == selectors_of(HUB.subnets)
    assert tunnel.remote_endpoints == HUB.endpoints
    assert tunnel.local_endpoints == ()
    assert isinstance(tunnel.link.local_auth, RawKeyAuth)
    assert tunnel.link.local_auth.public_key == public_key("spoke-1")
    assert tunnel.link.remote_auth.identity == "hub-1"


def test_an_expanded_tunnel_is_valid_as_if_it_had_been_parsed() -> None:
    for tunnel in expand([STAR], FLEET, "hub-1"):
        assert Tunnel.model_validate_json(tunnel.model_dump_json()) == tunnel


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
def test_a_peer_that_lacks_something_has_no_tunnel(change: dict[str, Any], code: SkipCode) -> None:
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
        assert str(first.link.ike.proposals[0]) == "aes256gcm16-prfsha512-ecp384"
        assert only(expand(policies, FLEET, "spoke-1")).policy == "strict"
    assert [it.code for it in explain([STAR, strict], FLEET, "spoke-1").skipped] == [SkipCode.OVERRIDDEN]


def test_of_equal_priorities_the_lower_policy_id_wins_at_both_ends() -> None:
    tie = published("another", hubs=["tag=hub"], spokes=["tag=branch"])
    assert {it.policy for me in FLEET for it in expand([STAR, tie], FLEET, me)} == {"another"}


EXPLICIT = {
    "name": "office",
    "ends": [{"peer": "hub-1", "subnets": ["10.9.0.0/16"]}, {"peer": "spoke-2"}],
    "options": {"ike": {"mobike": True}},
    "crypto": {"ike": ["aes128gcm16-prfsha256-ecp256"]},
}


def test_an_explicit_tunnel_overrides_what_was_announced_and_mirrors_its_ports() -> None:
    policy = published("explicit", tunnels=[EXPLICIT])
    hub, spoke = only(expand([policy], FLEET, "hub-1")), only(expand([policy], FLEET, "spoke-2"))
    assert hub.name == spoke.name == "office"
    assert (
        hub.link.children[0].local_ts == spoke.link.children[0].remote_ts == selectors_of([ip_network("10.9.0.0/16")])
    )
    assert hub.link.ike.mobike
    assert spoke.link.ike.mobike
    assert [str(it) for it in hub.link.ike.proposals] == ["aes128gcm16-prfsha256-ecp256"]
    assert str(hub.link.children[0].proposals[0]) == "aes256gcm16-x25519"
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
    assert tunnel.remote_endpoints == (Endpoint(ip_address("203.0.113.9")),)
    assert tunnel.link.remote_auth.identity == "partner.example"


def test_a_foreign_gateway_without_address_is_waited_for() -> None:
    tunnel = foreign()
    del tunnel["ends"][1]["addresses"]
    assert not only(expand([published("partner", tunnels=[tunnel])], FLEET, "hub-1")).initiator


def test_transit_gives_the_hub_the_other_spokes_subnets() -> None:
    policy = published("star", hubs=["tag=hub"], spokes=["tag=branch"], transit=True)
    first, second = expand([policy], FLEET, "hub-1")
    assert first.link.children[0].local_ts == selectors_of((*HUB.subnets, *SPOKE_2.subnets))
    assert second.link.children[0].local_ts == selectors_of((*HUB.subnets, *SPOKE_1.subnets))
    assert only(expand([policy], FLEET, "spoke-1")).link.children[0].remote_ts == first.link.children[0].local_ts


def test_transit_sums_up_and_refuses_what_selectors_cannot_hold() -> None:
    policy = published("star", hubs=["tag=hub"], spokes=["tag=branch"], transit=True)
    dense = directory(HUB, *(record(f"s{n}", 256 + n, "branch") for n in range(256)))
    assert len(expand([policy], dense, "s7")[0].link.children[0].remote_ts) == 9
    sparse = directory(HUB, *(record(f"s{n}", 256 + 2 * n, "branch") for n in range(100)))
    assert {it.code for it in explain([policy], sparse, "hub-1").skipped} == {SkipCode.TOO_MANY_SELECTORS}


def test_an_unknown_profile_makes_no_tunnel_of_weaker_crypto() -> None:
    policy = published("star", hubs=["tag=hub"], spokes=["tag=branch"], crypto={"profile": "of-the-future"})
    assert {it.code for it in explain([policy], FLEET, "hub-1").skipped} == {SkipCode.UNKNOWN_PROFILE}


def test_proposals_that_an_end_cannot_express_are_left_out_at_both_ends() -> None:
    able = DriverCapabilities(ike=("aes256gcm16", "prfsha384", "ecp384"), features=("mobike",))
    fleet = directory(HUB, record("spoke-1", 11, "branch", driver=able))
    policy = published(
        "star", hubs=["tag=hub"], spokes=["tag=branch"], crypto={"esp": ["aes256-sha256-x25519-esn"] * 2}
    )
    hub, spoke = (explain([policy], fleet, me) for me in ("hub-1", "spoke-1"))
    assert {it.code for it in (*hub.skipped, *spoke.skipped)} == {SkipCode.NO_COMMON_PROPOSAL}
    hub_end, spoke_end = (only(expand([STAR], fleet, me)) for me in ("hub-1", "spoke-1"))
    assert [str(it) for it in hub_end.link.ike.proposals] == ["aes256gcm16-prfsha384-ecp384"]
    assert hub_end.link.ike.proposals == spoke_end.link.ike.proposals
    assert len(hub_end.link.children[0].proposals) == 3


CHILDREN = [{"name": "web", "protocol": "tcp", "ports": [443, "any"]}, {"name": "voice", "protocol": "udp"}]


def test_children_divide_the_traffic_between_the_subnets_of_both_ends() -> None:
    policy = published("star", hubs=["tag=hub"], spokes=["peer=spoke-1"], children=CHILDREN)
    hub, spoke = only(expand([policy], FLEET, "hub-1")), only(expand([policy], FLEET, "spoke-1"))
    assert [(it.name, *map(str, it.local_ts), *map(str, it.remote_ts)) for it in hub.link.children] == [
        ("web", "10.0.1.0/24[tcp/443]", "10.0.11.0/24[tcp]"),
        ("voice", "10.0.1.0/24[udp]", "10.0.11.0/24[udp]"),
    ]
    assert [(it.local_ts, it.remote_ts) for it in spoke.link.children] == [
        (it.remote_ts, it.local_ts) for it in hub.link.children
    ]
    assert spoke.link.ike == hub.link.ike


def test_an_explicit_child_states_selectors_proposals_and_options_of_its_own() -> None:
    child = {
        "name": "db", "ts": [["10.0.1.10-10.0.1.20[tcp/5432]"], []], "esp": ["aes128gcm16-x25519"],
        "options": {"rekey_time": 900},
    }  # fmt: skip
    ends = [{"peer": "hub-1"}, {"peer": "spoke-1"}]
    policy = published("db", tunnels=[{"name": "db", "ends": ends, "children": [child]}])
    (made,) = only(expand([policy], FLEET, "spoke-1")).link.children
    assert [str(it) for it in made.remote_ts] == ["10.0.1.10-10.0.1.20[tcp/5432]"]
    assert [str(it) for it in made.local_ts] == ["10.0.11.0/24"]
    assert ([str(it) for it in made.proposals], made.rekey_time, made.life_time) == (["aes128gcm16-x25519"], 900, 990)


def test_tunnels_of_disjoint_protocols_do_not_conflict() -> None:
    """Two partners announce the same network; each has its own service in it."""
    fleet = directory(HUB, record("a", 5, subnets=SPOKE_1.subnets), record("b", 6, subnets=SPOKE_1.subnets))
    both = [
        published("web", hubs=["peer=hub-1"], spokes=["peer=a"], children=[{"name": "web", "protocol": "tcp"}]),
        published("voice", hubs=["peer=hub-1"], spokes=["peer=b"], children=[{"name": "voice", "protocol": "udp"}]),
    ]
    assert [it.name for it in expand(both, fleet, "hub-1")] == ["a+hub-1", "b+hub-1"]
    both[1] = published("voice", hubs=["peer=hub-1"], spokes=["peer=b"])
    assert [it.name for it in expand(both, fleet, "hub-1")] == ["b+hub-1"]  # the policy ids decide: voice before web


def test_a_spoke_without_subnets_requests_a_virtual_address_and_its_hub_assigns_it() -> None:
    roaming = record("laptop", 30, "branch", subnets=(), endpoints=())
    fleet = directory(HUB, SPOKE_1, roaming)
    star = published("star", hubs=["tag=hub"], spokes=["tag=branch"], pools=["10.200.0.0/24", "fd00:200::/64"])
    laptop = only(expand([star], fleet, "laptop"))
    assert laptop.initiator
    assert [str(it) for it in laptop.link.ike.vips] == ["0.0.0.0", "::"]  # noqa: S104 - requests any address
    assert [str(it) for it in laptop.link.children[0].local_ts] == ["dynamic"]
    at_hub = {it.peer: it for it in expand([star], fleet, "hub-1")}
    assert [str(it) for it in at_hub["laptop"].link.ike.pools] == ["10.200.0.0/24", "fd00:200::/64"]
    assert [str(it) for it in at_hub["laptop"].link.children[0].remote_ts] == ["dynamic"]
    assert at_hub["spoke-1"].link.ike.pools == ()
    without = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
    assert expand([without], fleet, "laptop") == ()


def test_proposals_lose_only_the_alternatives_that_an_end_lacks() -> None:
    able = DriverCapabilities(ike=("aes256", "sha256", "prfsha256", "x25519"), esp=("aes256gcm16", "x25519"))
    fleet = directory(HUB, record("spoke-1", 11, "branch", driver=able))
    crypto = {"ike": ["aes256-aes128-sha384-sha256-prfsha256-x448-x25519"]}
    policy = published("star", hubs=["tag=hub"], spokes=["tag=branch"], crypto=crypto)
    for me in ("hub-1", "spoke-1"):
        assert [str(it) for it in only(expand([policy], fleet, me)).link.ike.proposals] == [
            "aes256-sha256-prfsha256-x25519"
        ]


def test_both_ends_agree_if_a_policy_states_the_lower_half_of_what_a_peer_announces() -> None:
    """`e` has two tunnels, one with its announced /16 and one with a /24 of it: both count at its neighbours."""
    fleet = directory(record("a", 0), record("b", 1), record("e", 4, subnets=(ip_network("10.0.0.0/16"),)))
    star = published("p0", hubs=["all"], spokes=["peer=a"])
    stated = [{"name": "g0", "ends": [{"peer": "b"}, {"peer": "e", "subnets": ["10.0.0.0/24"]}]}]
    policies = [star, published("g0", priority=50, tunnels=stated)]
    found = {me: [it.name for it in expand(policies, fleet, me)] for me in fleet}
    assert found == {"a": [], "b": ["g0"], "e": ["g0"]}
