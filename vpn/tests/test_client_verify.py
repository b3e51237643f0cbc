"""What a server may not assign."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from warren_ikev2.events import NetworkAttributes
from warren_ikev2.selectors import TrafficSelector
from warren_testkit.ikev2.dataplane import child
from warren_vpn.client.verify import (
    ServerRefusedError,
    accepted_addresses,
    accepted_dns,
    check_selectors,
    refused_subnets,
)

SERVER = ip_address("198.51.100.2")
OWN = [ip_interface("192.168.7.2/24"), ip_interface("2001:db8::2/64")]
FULL = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def attributes(*addresses: str, **more: Any) -> NetworkAttributes:
    return NetworkAttributes(tuple(ip_address(one) for one in addresses), **more)


def test_one_address_of_each_version_is_taken() -> None:
    found = accepted_addresses(attributes("fd77::1", "10.77.0.1", "10.77.0.2"), SERVER, OWN)
    assert found == (ip_address("10.77.0.1"), ip_address("fd77::1"))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.2", "not a unicast address"),
        ("224.0.0.1", "not a unicast address"),
        ("0.0.0.0", "not a unicast address"),  # noqa: S104
        ("fe80::1", "not a unicast address"),
        ("198.51.100.2", "its own address"),
        ("192.168.7.9", "this host's own network 192.168.7.0/24"),
        ("2001:db8::7", "this host's own network 2001:db8::/64"),
    ],
)
def test_an_address_that_redirects_the_hosts_traffic_is_refused(address: str, reason: str) -> None:
    with pytest.raises(ServerRefusedError, match=reason):
        accepted_addresses(attributes(address), SERVER, OWN)


def test_no_address_is_refused() -> None:
    with pytest.raises(ServerRefusedError, match="no address"):
        accepted_addresses(attributes(), SERVER, OWN)


def selectors(*networks: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.parse(network) for network in networks)


def test_selectors_that_cover_the_routes_are_accepted() -> None:
    sa = replace(child(), local_ts=selectors("10.77.0.1"), remote_ts=selectors("0.0.0.0/0"))
    check_selectors(sa, [ip_address("10.77.0.1")], FULL)  # IPv6: no address, so nothing is to be carried


@pytest.mark.parametrize(
    ("local", "remote", "reason"),
    [
        ("10.77.0.1", "10.0.0.0/8", "not all of the route 0.0.0.0/0"),
        ("10.77.0.9", "0.0.0.0/0", "do not hold that address"),
        ("10.77.0.0/24", "0.0.0.0/0", "not only to the address"),
        ("0.0.0.0/0", "0.0.0.0/0", "not only to the address"),
    ],
)
def test_narrowed_or_widened_selectors_are_refused(local: str, remote: str, reason: str) -> None:
    sa = replace(child(), local_ts=selectors(local), remote_ts=selectors(remote))
    with pytest.raises(ServerRefusedError, match=reason):
        check_selectors(sa, [ip_address("10.77.0.1")], FULL)


def test_dns_servers_outside_of_the_routes_are_not_used() -> None:
    routes = (ip_network("10.0.0.0/8"),)
    offered = attributes("10.77.0.1", dns=(ip_address("10.0.0.53"), ip_address("9.9.9.9"), ip_address("fd00::53")))
    used, refused = accepted_dns(offered, (), routes, ())
    assert used == (ip_address("10.0.0.53"),)
    assert refused == (ip_address("9.9.9.9"), ip_address("fd00::53"))


def test_the_profiles_dns_servers_have_precedence() -> None:
    own = (ip_address("192.0.2.53"),)
    assert accepted_dns(attributes("10.77.0.1", dns=(ip_address("10.0.0.53"),)), own, FULL, ()) == (own, ())


@pytest.mark.parametrize(
    "server", ["127.0.0.1", "127.0.0.53", "::", "224.0.0.251", "169.254.1.1", "192.168.7.1", "10.77.0.1"]
)
def test_dns_servers_that_no_question_reaches_through_the_tunnel_are_not_used(server: str) -> None:
    """Although the routes hold them: addresses of the host or of its links, whose questions would leave in clear."""
    address = ip_address(server)
    local = (ip_network("192.168.7.0/24"),)
    assert accepted_dns(attributes("10.77.0.1", dns=(address,)), (), FULL, local) == ((), (address,))


def test_announced_networks_never_widen_the_routes() -> None:
    offered = attributes("10.77.0.1", subnets=(ip_network("10.1.0.0/16"), ip_network("172.16.0.0/12")))
    assert refused_subnets(offered, (ip_network("10.0.0.0/8"),)) == (ip_network("172.16.0.0/12"),)
