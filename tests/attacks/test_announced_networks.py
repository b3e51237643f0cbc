"""Hardening 1: without a word of an operator a peer announced 64 networks of /16, and networks of others in the public space."""

from datetime import UTC, datetime
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from warren_contracts.peers import Announcement
from warren_intent.claims import PolicyClaims
from warren_registry.peers.address_claims import AddressClaim, AddressClaims, conflicting_networks, refused_networks
from warren_registry.peers.model import Peer
from warren_registry.settings import RegistrySettings
from warren_stack.ports import reachable_addresses


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


def peer_of(*allowed: str) -> Peer:
    """A peer whose token names these networks."""
    return Peer(
        id="gw1", nkey="n", tags=(), version=1, join_token="j", enrolled_at=datetime(2026, 11, 29, tzinfo=UTC),
        allowed=tuple(map(ip_network, allowed)),
    )  # fmt: skip


@pytest.mark.parametrize("subnet", ["192.0.2.10/32", "192.0.2.0/24", "10.7.0.0/16", "fd00:7::/64"])
def test_a_network_with_an_address_of_the_bus_or_an_endpoint_requires_a_token_that_names_it(subnet: str) -> None:
    servers = (ip_address("192.0.2.10"), ip_address("fd00:7::1"))
    endpoint = AddressClaim("gw2", ip_network("10.7.3.1/32"))
    claims = AddressClaims(endpoints=(endpoint,), policies=PolicyClaims((), servers))
    announcement = Announcement.model_validate({"subnets": ["10.8.0.0/16", subnet]})
    (conflict,) = conflicting_networks(peer_of(), announcement, claims)
    assert conflict.field == "subnets/1"
    assert subnet in conflict.message
    assert conflicting_networks(peer_of("10.8.0.0/16", subnet), announcement, claims) == ()


@pytest.mark.parametrize(("text", "count"), [("", 0), ("192.0.2.10", 1), ("192.0.2.10, fd00::1,nats.example.org", 2)])
def test_the_registry_is_given_the_addresses_of_the_bus(text: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARREN_BUS_ADDRESSES", text)
    settings = {
        "postgres_dsn": "postgresql:///warren?host=/run",
        "signing_key_file": "x",
        "root_key_file": "x",
        "policy_public_key": "A" * 43 + "=",
    }
    assert len(RegistrySettings(**settings).bus_servers) == count  # type: ignore[arg-type]


def test_warren_up_gives_the_addresses_by_which_others_reach_it() -> None:
    assert reachable_addresses("192.0.2.10") == ("192.0.2.10",)
    assert not any(ip_address(it).is_loopback for it in reachable_addresses(str(IPv4Address(0))))
    assert reachable_addresses("bus.example.org") == ()
