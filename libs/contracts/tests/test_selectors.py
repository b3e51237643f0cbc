"""Traffic selectors: their text, their networks, and whether two of them overlap."""

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_contracts.addresses import Endpoint, common_port, parse_endpoint
from warren_contracts.selectors import AddressRange, TrafficSelector, covered, overlap, parse_selector


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.0/24", "10.0.0.0/24"),
        ("10.0.0.1", "10.0.0.1/32"),
        ("2001:db8::/48[tcp]", "2001:db8::/48[tcp]"),
        ("10.0.0.0/24[6/443]", "10.0.0.0/24[tcp/443]"),
        ("10.0.0.10-10.0.0.20[udp/1024-2048]", "10.0.0.10-10.0.0.20[udp/1024-2048]"),
        ("10.0.0.0-10.0.0.255", "10.0.0.0/24"),
        ("dynamic[icmpv6]", "dynamic[ipv6-icmp]"),
        ("dynamic", "dynamic"),
        ("10.0.0.0/24[tcp/any]", "10.0.0.0/24[tcp]"),
        ("10.0.0.0/24[tcp/opaque]", "10.0.0.0/24[tcp/opaque]"),
        ("10.0.0.0/24[112]", "10.0.0.0/24[vrrp]"),
        ("10.0.0.0/24[200]", "10.0.0.0/24[200]"),
    ],
)
def test_text_becomes_canonical_and_is_read_back(text: str, canonical: str) -> None:
    selector = parse_selector(text)
    assert str(selector) == canonical
    assert parse_selector(canonical) == selector


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("10.0.0.0/33", "invalid network"),
        ("10.0.0.1/24", "did you mean 10.0.0.0/24"),
        ("10.0.0.9-10.0.0.1", "lower to the higher"),
        ("10.0.0.1-2001:db8::1", "one IP version"),
        ("10.0.0.0/24[http]", "unknown protocol"),
        ("10.0.0.0/24[256]", "unknown protocol"),
        ("10.0.0.0/24[gre/5]", "has no ports"),
        ("10.0.0.0/24[tcp/70000]", "invalid ports"),
        ("10.0.0.0/24[tcp/9-1]", "invalid ports"),
        ("10.0.0.0/24[tcp", "invalid traffic selector"),
    ],
)
def test_a_refusal_says_what_is_invalid(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_selector(text)


@given(st.integers(0, 2**32 - 1), st.integers(0, 70_000))
def test_the_networks_of_a_range_are_exactly_its_addresses(first: int, length: int) -> None:
    last = min(first + length, 2**32 - 1)
    networks = TrafficSelector(AddressRange(IPv4Address(first), IPv4Address(last))).networks
    assert sum(network.num_addresses for network in networks) == last - first + 1
    assert (int(networks[0].network_address), int(networks[-1].broadcast_address)) == (first, last)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("10.0.0.0/24", "10.0.0.128/25", True),
        ("10.0.0.0/24", "10.0.1.0/24", False),
        ("10.0.0.0/24[tcp]", "10.0.0.0/24[udp]", False),
        ("10.0.0.0/24[tcp/443]", "10.0.0.0/24[tcp/80]", False),
        ("10.0.0.0/24[tcp/80-443]", "10.0.0.0/24[tcp/443]", True),
        ("10.0.0.0/24[tcp/443]", "10.0.0.0/24", True),
        ("10.0.0.0/24[tcp/opaque]", "10.0.0.0/24[tcp/443]", False),
        ("10.0.0.0/24[tcp/opaque]", "10.0.0.0/24[tcp]", True),
        ("10.0.0.1-10.0.0.9", "10.0.0.9/32", True),
        ("10.0.0.0/24", "2001:db8::/48", False),
        ("dynamic", "10.0.0.0/24", False),
    ],
)
def test_overlap(one: str, other: str, expected: bool) -> None:
    assert overlap(parse_selector(one), parse_selector(other)) is expected
    assert overlap(parse_selector(other), parse_selector(one)) is expected


@pytest.mark.parametrize(
    ("inner", "outers", "expected"),
    [
        ("10.0.0.0/24", ["10.0.0.0/25", "10.0.0.128/25"], True),
        ("10.0.0.0/24", ["10.0.0.0/25"], False),
        ("10.0.0.0/24", ["10.0.0.0/25[tcp]", "10.0.0.128/25"], False),
        ("10.0.0.0/24[tcp/443]", ["10.0.0.0/25[tcp]", "10.0.0.128/25[tcp/1-1024]"], True),
        ("10.0.0.0/24[tcp/443]", ["10.0.0.0/24[udp/443]"], False),
        ("10.0.0.0/24[tcp/opaque]", ["10.0.0.0/24[tcp/opaque]"], True),
        ("10.0.0.0/24[tcp/443]", ["10.0.0.0/24[tcp/opaque]"], False),
        ("::/0", ["0.0.0.0/0"], False),
        ("dynamic", ["0.0.0.0/0"], False),
        ("10.0.0.0/24", ["dynamic"], False),
        ("10.0.0.0/24", [], False),
    ],
)
def test_a_selector_is_covered_by_others_together(inner: str, outers: list[str], expected: bool) -> None:
    assert covered(parse_selector(inner), map(parse_selector, outers)) is expected


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.1", Endpoint(ip_address("192.0.2.1"))),
        ("192.0.2.1:4501", Endpoint(ip_address("192.0.2.1"), 4501)),
        ("192.0.2.1:500", Endpoint(ip_address("192.0.2.1"))),
        ("2001:db8::1", Endpoint(ip_address("2001:db8::1"))),
        ("[2001:db8::1]:4501", Endpoint(ip_address("2001:db8::1"), 4501)),
        ("gw.example.org:4501", Endpoint("gw.example.org", 4501)),
    ],
)
def test_endpoints_have_an_optional_port(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text", ["192.0.2.1:0", "192.0.2.1:65536", "300.1.1.1:500", "[192.0.2.1]:500", "a b:1", ":500", ""]
)
def test_an_invalid_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid|brackets"):
        parse_endpoint(text)


def test_the_endpoints_of_one_end_have_one_port() -> None:
    assert common_port(()) == 500
    assert common_port(map(parse_endpoint, ("192.0.2.1:4501", "[2001:db8::1]:4501"))) == 4501
    with pytest.raises(ValueError, match="500, 4501"):
        common_port(map(parse_endpoint, ("192.0.2.1", "192.0.2.2:4501")))


def test_a_network_of_one_address_is_a_network() -> None:
    assert parse_selector("10.0.0.1-10.0.0.1").networks == (ip_network("10.0.0.1/32"),)
