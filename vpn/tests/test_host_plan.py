"""Routes, rules and the kill switch of a tunnel."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from warren_vpn.host.changes import MAIN_TABLE, AddressChange, KillSwitchChange, LinkChange, RouteChange, RuleChange
from warren_vpn.host.kill_switch import build_table
from warren_vpn.host.plan import (
    TABLE,
    ServerEndpoint,
    TunnelPlan,
    kill_switch_change,
    local_networks,
    question_rules,
    server_rules,
    tunnel_changes,
)

FULL = (ip_network("0.0.0.0/0"), ip_network("::/0"))
SERVER = ServerEndpoint(ip_address("198.51.100.2"), (500, 4500))


def test_only_ike_and_esp_to_a_server_go_around_the_tunnel() -> None:
    rules = list(server_rules([SERVER]))
    assert {(rule.remote_port, rule.local_port) for rule in rules} == {
        (500, None),
        (None, 500),
        (4500, None),
        (None, 4500),
    }
    assert {(rule.to, rule.table) for rule in rules} == {(ip_network("198.51.100.2/32"), MAIN_TABLE)}


def test_a_route_without_an_address_of_its_version_is_unreachable() -> None:
    changes = tunnel_changes(TunnelPlan("t0", FULL, (ip_address("10.77.0.1"),)), ())
    routes = {str(one.network): one.device for one in changes if isinstance(one, RouteChange)}
    assert routes == {"0.0.0.0/0": "t0", "::/0": None}


def test_rules_come_after_the_routes_that_they_lead_to() -> None:
    local = (ip_network("192.168.7.0/24"),)
    changes = tunnel_changes(TunnelPlan("t0", FULL, (ip_address("10.77.0.1"),)), local)
    assert [type(one) for one in changes] == [
        AddressChange,
        RouteChange,
        RouteChange,
        RuleChange,
        RuleChange,
        RuleChange,
    ]
    rules = [one for one in changes if isinstance(one, RuleChange)]
    assert sorted(rules, key=lambda rule: rule.priority) == rules
    assert [(rule.table, rule.to) for rule in rules] == [(MAIN_TABLE, local[0]), (TABLE, None), (TABLE, None)]


@pytest.mark.parametrize(
    ("own", "routes", "strict", "local"),
    [
        ("192.168.7.2/24", FULL, False, ["192.168.7.0/24"]),
        ("192.168.7.2/24", FULL, True, []),  # the kill switch
        ("203.0.113.7/24", FULL, False, []),  # a public network that an access point hands out
        ("10.1.2.3/24", (ip_network("10.0.0.0/8"),), True, ["10.1.2.0/24"]),
        ("192.168.7.2/24", (ip_network("10.0.0.0/8"),), False, []),  # not in the tunnel anyway
        ("10.1.2.3/32", (ip_network("10.0.0.0/8"),), False, []),
        ("127.0.0.1/8", FULL, False, []),
    ],
)
def test_local_networks(own: str, routes: tuple[object, ...], strict: bool, local: list[str]) -> None:
    found = local_networks([ip_interface(own)], routes, strict=strict)  # type: ignore[arg-type]
    assert [str(network) for network in found] == local


def test_the_kill_switch_of_a_full_tunnel_drops_all_but_the_tunnel_and_ike() -> None:
    change = kill_switch_change("t0", [SERVER], FULL, (), "always")
    assert change is not None
    assert change.lasting
    text = build_table(change)
    assert text.startswith("table inet warren_vpn_client\ndelete table inet warren_vpn_client\n")
    rules = [line.strip() for line in text.split("policy accept;")[1].splitlines() if line.strip(" }")]
    assert rules[0] == 'oifname { "lo", "t0" } accept'
    assert rules[1:3] == [f"ip daddr 198.51.100.2 udp dport {port} accept" for port in (500, 4500)]
    assert rules[-2:] == ["meta nfproto ipv4 counter drop", "meta nfproto ipv6 counter drop"]


def test_questions_for_names_pass_from_their_own_ports_only() -> None:
    passages = ((ip_address("192.0.2.53"), 40_001), (ip_address("2001:db8::53"), 40_002))
    change = kill_switch_change("t0", [SERVER], FULL, (), "always", passages)
    assert change is not None
    text = build_table(change)
    assert "type ipv4_addr . inet_service; flags timeout; elements = { 192.0.2.53 . 40001 timeout 15s }" in text
    assert "type ipv6_addr . inet_service; flags timeout; elements = { 2001:db8::53 . 40002 timeout 15s }" in text
    rules = text.split("policy accept;")[1]
    for version, word in ((4, "ip"), (6, "ip6")):
        assert f"{word} daddr . udp sport @questions{version} udp dport 53 accept" in rules
    plain = kill_switch_change("t0", [SERVER], FULL, (), "always")
    assert plain is not None
    assert "questions" not in build_table(plain)
    assert [(str(rule.to), rule.remote_port, rule.local_port, rule.table) for rule in question_rules(passages[:1])] == [
        ("192.0.2.53/32", 53, 40_001, MAIN_TABLE),
        ("192.0.2.53/32", 40_001, 53, MAIN_TABLE),
    ]


def test_questions_to_a_link_local_server_pass_on_its_link_only() -> None:
    passages = ((ip_address("fe80::1%wan"), 40_001), (ip_address("2001:db8::53"), 40_002))
    change = kill_switch_change("t0", [SERVER], FULL, (), "always", passages)
    assert change is not None
    assert KillSwitchChange.model_validate_json(change.model_dump_json()) == change
    text = build_table(change)
    assert 'elements = { "wan" . fe80::1 . 40001 timeout 15s }' in text
    assert "elements = { 2001:db8::53 . 40002 timeout 15s }" in text
    assert "oifname . ip6 daddr . udp sport @link_questions udp dport 53 accept" in text
    assert [str(rule.to) for rule in question_rules(passages[:1])] == ["fe80::1/128"] * 2


@pytest.mark.parametrize("zone", ['a"b', "a b", "a" * 16, ";"])
def test_a_zone_cannot_be_read_as_syntax(zone: str) -> None:
    with pytest.raises(ValueError, match="invalid zone"):
        kill_switch_change("t0", [SERVER], FULL, (), "always", ((ip_address(f"fe80::1%{zone}"), 40_001),))


def test_the_kill_switch_of_a_split_tunnel_drops_its_routes_only() -> None:
    local = (ip_network("10.1.2.0/24"),)
    change = kill_switch_change("t0", [SERVER], (ip_network("10.0.0.0/8"),), local, "when-up")
    assert change is not None
    assert not change.lasting
    text = build_table(change)
    assert "elements = { 10.0.0.0/8 }" in text
    assert text.index("ip daddr @local4 accept") < text.index("ip daddr @protected4 counter drop")
    assert "nfproto ipv4 counter drop" not in text
    assert "nfproto ipv6 counter drop" not in text


def test_no_kill_switch() -> None:
    assert kill_switch_change("t0", [SERVER], FULL, (), "off") is None


@pytest.mark.parametrize("name", ["", "a" * 16, 'a"', "a b", "../x", "a;drop", "-a"])
def test_a_device_name_cannot_be_read_as_syntax(name: str) -> None:
    with pytest.raises(ValueError, match="device"):
        LinkChange(device=name)
    with pytest.raises(ValueError, match="device"):
        KillSwitchChange(device=name, servers=(), protected=())
