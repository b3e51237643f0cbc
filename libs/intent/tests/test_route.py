"""Which tunnel a destination takes, and why none."""

from ipaddress import ip_address
from typing import Any

import pytest

from warren_contracts.peers import PeerRecord
from warren_contracts.policy import PublishedPolicy
from warren_intent.route import Route, RouteVerdict, route
from warren_testkit.intent import directory, published, record

STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
FLEET = directory(
    record("hub", 1, "hub", subnets=("10.0.0.0/16", "fd00::/64")), record("office", 257, "branch"),
    record("lonely", 258), record("keyless", 259, "branch", public_key=None),
)  # fmt: skip


def found(
    address: str, *policies: PublishedPolicy, me: str = "office", fleet: dict[str, PeerRecord] | None = None
) -> Route:
    return route(policies or (STAR,), fleet or FLEET, me, ip_address(address))


def test_a_network_of_another_peer_takes_its_tunnel() -> None:
    answer = found("10.0.7.7")
    assert (answer.verdict, answer.tunnel, answer.to) == (RouteVerdict.TUNNEL, "hub+office", "hub")
    assert answer.detail == "10.0.0.0/16 is behind hub, by policy star"
    assert [str(it) for it in answer.sources] == ["10.1.1.0/24"]


@pytest.mark.parametrize(
    ("address", "me", "verdict", "says"),
    [
        ("10.1.1.9", "office", RouteVerdict.LOCAL, "10.1.1.0/24 is behind office"),
        ("10.1.2.1", "office", RouteVerdict.NONE, "no policy joins office with lonely (10.1.2.0/24)"),
        ("192.0.2.1", "office", RouteVerdict.NONE, "no peer protects a network that contains 192.0.2.1"),
        (
            "10.0.0.1",
            "keyless",
            RouteVerdict.NONE,
            "policy star requests hub+keyless, but keyless has announced no IKE public key",
        ),
        ("10.0.0.1", "nobody", RouteVerdict.NONE, "nobody has not announced itself"),
    ],
)
def test_where_no_tunnel_is_taken_the_cause_is_named(address: str, me: str, verdict: RouteVerdict, says: str) -> None:
    answer = found(address, me=me)
    assert (answer.verdict, answer.tunnel) == (verdict, None)
    assert says in answer.detail


def test_the_longer_prefix_and_the_preferred_gateway_carry_the_packets() -> None:
    everything: dict[str, Any] = {
        "name": "all",
        "ends": [{"peer": "office"}, {"peer": "hub", "subnets": ["0.0.0.0/0"]}],
    }
    direct = {"name": "direct", "ends": [{"peer": "office"}, {"peer": "lonely"}]}
    policy = published("p", tunnels=[everything, direct])
    assert found("10.1.2.1", policy).tunnel == "direct"
    assert found("192.0.2.1", policy).tunnel == "all"
    hubs = [record(f"hub-{n}", n, "hub", subnets=("10.0.0.0/16",), priority=n) for n in (1, 2)]
    answer = found("10.0.0.1", fleet=directory(record("office", 257, "branch"), *hubs))
    assert (answer.tunnel, answer.standbys) == ("hub-2+office", ("hub-1+office",))


def test_selectors_that_do_not_contain_the_address_are_named() -> None:
    ends = [{"peer": "office"}, {"peer": "hub", "subnets": ["10.0.1.0/24"]}]
    answer = found("10.0.7.7", published("p", tunnels=[{"name": "t", "ends": ends}]))
    assert answer.detail == "t leads to hub (10.0.0.0/16), but its selectors do not contain 10.0.7.7"
