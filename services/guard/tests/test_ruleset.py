"""The table: what is in its sets, in which order its rules stand, and what makes it refuse."""

from typing import Any

import pytest

from warren_contracts.guard import Bypass
from warren_contracts.protection import ProtectedTraffic
from warren_guard.domain.ruleset import build_table
from warren_guard.domain.traffic import MAX_CLASSES, classify
from warren_guard.errors import TooManyElementsError


def traffic(tunnel: str, *pairs: tuple[list[str], list[str]], **changes: Any) -> ProtectedTraffic:
    fields = {"policy": "p", "tunnel": tunnel, "pairs": [{"local": own, "remote": far} for own, far in pairs]}
    return ProtectedTraffic.model_validate(fields | changes)


def table(*entries: ProtectedTraffic, bypass: tuple[Bypass, ...] = (), keep_sources: bool = False) -> list[str]:
    text = build_table(entries, ["ipsec0"], bypass, keep_sources=keep_sources)
    return [line.strip() for line in text.splitlines()]


def elements(lines: list[str], name: str) -> list[str]:
    """The elements of a set."""
    line = lines[lines.index(f"set {name} {{") + 1]
    return line.partition("{ ")[2].removesuffix(" }").split(", ")


def test_table_is_replaced_in_one_transaction_and_tunnel_links_pass_first() -> None:
    lines = table(traffic("a", (["10.1.0.0/24"], ["10.2.0.0/24"])))
    assert lines[:3] == ["table inet warren", "delete table inet warren", "table inet warren {"]
    assert elements(lines, "tunnel_links") == ['"ipsec0"', '"lo"']
    assert elements(lines, "c0_pairs4") == ["10.2.0.0/24 . 10.1.0.0/24"]
    start = lines.index("chain outgoing {")
    assert lines[start + 1 : start + 6] == [
        "type filter hook postrouting priority 300; policy accept;",
        "oifname @tunnel_links accept",
        "rt ipsec exists accept",
        "ip daddr . ip saddr @c0_pairs4 goto refuse_out",
        "ct status snat ct direction original ct original ip daddr . ct original ip saddr @c0_pairs4 goto refuse_out",
    ]
    assert "ip saddr . ip daddr @c0_pairs4 goto refuse_in" in lines
    assert not [line for line in lines if "snat ip to" in line]


def test_packets_within_the_own_networks_are_no_tunnels_traffic() -> None:
    lines = table(traffic("a", (["10.1.0.0/16"], ["10.0.0.0/8"])))
    assert elements(lines, "c0_pairs4") == ["10.0.0.0/16 . 10.1.0.0/16", "10.2.0.0-10.255.255.255 . 10.1.0.0/16"]


def test_a_site_inside_the_own_aggregate_is_protected() -> None:
    lines = table(traffic("a", (["10.0.0.0/8"], ["10.2.0.0/16"])), traffic("b", (["10.9.0.0/16"], ["10.9.0.0/16"])))
    assert elements(lines, "c0_pairs4") == [
        "10.2.0.0/16 . 10.0.0.0-10.8.255.255",
        "10.2.0.0/16 . 10.9.0.0/16",
        "10.9.0.0/16 . 10.9.0.0/16",
        "10.2.0.0/16 . 10.10.0.0-10.255.255.255",
    ]


def test_all_addresses_leave_out_what_is_never_routed() -> None:
    found = classify([traffic("a", (["10.1.0.0/16"], ["0.0.0.0/0"]))])
    ((local, remotes),) = next(iter(found.values()))[4].pairs
    assert local == (0x0A010000, 0x0A01FFFF)
    for number in (0xE0000001, 0xFFFFFFFF, 0xA9FE0001, 0x7F000001, 0x0A010001):
        assert not [it for it in remotes if it[0] <= number <= it[1]]
    assert [it for it in remotes if it[0] <= 0x08080808 <= it[1]]


def test_protocols_ports_marks_and_the_hosts_own_addresses_restrict_the_rules() -> None:
    lines = table(
        traffic("a", (["10.1.0.0/24[tcp/443]"], ["10.2.0.0/24[tcp]"])),
        traffic("b", (["10.1.0.0/24"], ["10.3.0.0/24"]), mark=5, mark_mask=15),
        traffic("c", (["dynamic[udp/1701]"], ["192.0.2.9[udp/1701]"])),
        keep_sources=True,
    )
    assert "meta l4proto 6 th sport 443-443 ip daddr . ip saddr @c0_pairs4 goto refuse_out" in lines
    assert "meta l4proto 6 th dport 443-443 ip saddr . ip daddr @c0_pairs4 goto refuse_in" in lines
    assert "meta mark and 0xf == 0x5 ip daddr . ip saddr @c1_pairs4 goto refuse_out" in lines
    assert not [line for line in lines if "c1_pairs4 goto refuse_in" in line]  # its mark is set later
    own = "meta l4proto 17 th sport 1701-1701 th dport 1701-1701"
    assert f"{own} ip daddr @c2_host4 fib saddr type local goto refuse_out" in lines
    assert f"{own} ip saddr @c2_host4 fib daddr type local goto refuse_in" in lines
    assert "meta l4proto 6 th sport 443-443 ip daddr . ip saddr @c0_pairs4 snat ip to ip saddr" in lines


def test_a_selector_of_another_protocol_meets_none() -> None:
    assert classify([traffic("a", (["10.1.0.0/24[tcp]"], ["10.2.0.0/24[udp]"]))]) == {}


def test_families_do_not_mix() -> None:
    lines = table(traffic("a", (["10.1.0.0/24", "fd00:1::/64"], ["10.2.0.0/24", "fd00:2::/64"])))
    assert elements(lines, "c0_pairs4") == ["10.2.0.0/24 . 10.1.0.0/24"]
    assert elements(lines, "c0_pairs6") == ["fd00:2::/64 . fd00:1::/64"]


def test_ike_esp_and_the_bypass_of_the_host_itself_are_accepted_before_the_drop() -> None:
    bypass = (Bypass(address="10.2.0.9", port=4222), Bypass(address="fd00:2::9", port=4222))
    lines = table(traffic("a", (["0.0.0.0/0"], ["0.0.0.0/0"])), bypass=bypass)
    start = lines.index("chain refuse_out {")
    assert lines[start + 1 : start + 6] == [
        "fib saddr type local meta l4proto esp accept",
        "fib saddr type local udp sport { 500, 4500 } accept",
        "fib saddr type local ip daddr 10.2.0.9 meta l4proto 6 th dport 4222 accept",
        "fib saddr type local ip6 daddr fd00:2::9 meta l4proto 6 th dport 4222 accept",
        "counter drop",
    ]


def test_nothing_protected_is_an_empty_table() -> None:
    assert table() == ["table inet warren", "delete table inet warren", "table inet warren {", "}"]


def test_too_much_traffic_is_refused_before_the_kernel_sees_it() -> None:
    many = [traffic(f"t{n}", ([f"10.1.0.0/24[udp/{n}]"], ["10.2.0.0/24[udp]"])) for n in range(1, MAX_CLASSES + 2)]
    with pytest.raises(TooManyElementsError, match="257 combinations"):
        build_table(many, [], keep_sources=False)
