"""How networks of any IP version relate."""

from ipaddress import ip_network

import pytest

from warren_contracts.networks import contains, merged, overlap


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("10.0.0.0/8", "10.1.0.0/16", True),
        ("10.1.0.0/16", "10.1.0.0/16", True),
        ("10.1.0.0/16", "10.0.0.0/8", False),
        ("10.1.0.0/16", "10.2.0.0/16", False),
        ("0.0.0.0/0", "::/0", False),
        ("::/0", "10.0.0.0/8", False),
        ("2001:db8::/32", "2001:db8:1::/48", True),
    ],
)
def test_a_network_contains_another_of_its_ip_version(outer: str, inner: str, expected: bool) -> None:
    assert contains(ip_network(outer), ip_network(inner)) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("10.0.0.0/8", "10.1.0.0/16", True), ("10.0.0.0/16", "10.1.0.0/16", False), ("0.0.0.0/0", "::/0", False)],
)
def test_networks_overlap_in_either_order(one: str, other: str, expected: bool) -> None:
    assert overlap(ip_network(one), ip_network(other)) is expected
    assert overlap(ip_network(other), ip_network(one)) is expected


def test_adjacent_networks_are_merged_and_ipv4_comes_first() -> None:
    given = map(ip_network, ("2001:db8::/33", "128.0.0.0/1", "2001:db8:8000::/33", "0.0.0.0/1", "10.0.0.0/8"))
    assert merged(given) == (ip_network("0.0.0.0/0"), ip_network("2001:db8::/32"))
    assert merged(()) == ()
