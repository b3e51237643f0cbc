"""Hardening 1: without a word of an operator a peer announced 64 networks of /16, and networks of others in the public space."""

import pytest

from warren_contracts.peers import Announcement
from warren_registry.peers.address_claims import refused_networks


def refused(*subnets: str, allowed: tuple[str, ...] = ()) -> list[str]:
    """The fields of an announcement that are refused."""
    announcement = Announcement.model_validate({"subnets": list(subnets)})
    named = Announcement.model_validate({"subnets": list(allowed)}).subnets
    return [found.field for found in refused_networks(announcement, named)]


@pytest.mark.parametrize(
    "subnet", ["8.8.8.0/24", "1.1.1.1/32", "2001:4860::/48", "2606:4700:4700::1111/128", "193.0.0.0/21"]
)
def test_public_address_space_requires_a_token_that_names_it(subnet: str) -> None:
    assert refused(subnet) == ["subnets/0"]
    assert refused(subnet, allowed=(subnet,)) == []


@pytest.mark.parametrize("subnet", ["10.1.0.0/16", "192.168.7.0/24", "172.31.255.0/24", "fd00:1::/48", "100.64.1.0/24"])
def test_private_networks_of_a_site_are_announced_freely(subnet: str) -> None:
    assert refused(subnet) == []


def test_addresses_are_counted_and_not_networks() -> None:
    assert refused(*(f"10.{number}.0.0/16" for number in range(64))) == [f"subnets/{number}" for number in range(1, 64)]
    assert refused(*(f"10.1.{number}.0/24" for number in range(64))) == []
    assert refused("10.1.0.0/17", "10.2.0.0/17", "192.168.1.1/32") == ["subnets/2"]
    assert refused("fd00:1::/48", "fd00:2::/128", "10.0.0.0/16") == ["subnets/1"]
    assert refused(*(f"10.{number}.0.0/16" for number in range(64)), allowed=("10.0.0.0/8",)) == []
