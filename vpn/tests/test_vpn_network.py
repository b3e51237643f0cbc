"""The server's rules and kernel settings, without a kernel."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from warren_vpn.server.errors import NetworkError
from warren_vpn.server.ruleset import build_table, remove_table
from warren_vpn.server.settings import TunnelSettings
from warren_vpn.server.sysctl import Forwarding

TUNNEL = TunnelSettings.model_validate({"pools": ["10.66.0.0/24", "fd66::/64"]})


def test_the_table_is_one_transaction() -> None:
    text = build_table(TUNNEL)
    assert text.startswith("table inet warren_vpn\ndelete table inet warren_vpn\ntable inet warren_vpn {\n")
    assert 'iifname "wvpn0" oifname "wvpn0" counter drop' in text
    assert 'oifname != "wvpn0" ip saddr @pool4 masquerade' in text
    assert 'oifname != "wvpn0" ip6 saddr @pool6 masquerade' in text
    assert text.count("{") == text.count("}")


def test_the_table_follows_the_settings() -> None:
    tunnel = TUNNEL.model_copy(update={"nat": False, "client_to_client": True, "pools": TUNNEL.pools[:1]})
    text = build_table(tunnel)
    assert "masquerade" not in text
    assert 'oifname "wvpn0" counter' not in text
    assert "pool6" not in text


def test_clients_reach_the_servers_own_links_only_where_networks_names_them() -> None:
    assert 'iifname "wvpn0" ip daddr 169.254.0.0/16 counter drop' in build_table(TUNNEL)
    assert 'iifname "wvpn0" ip6 daddr fd00:ec2::254/128 counter drop' in build_table(TUNNEL)
    named = TunnelSettings.model_validate({"pools": ["10.66.0.0/24"], "networks": ["169.254.7.0/24"]})
    assert "169.254" not in build_table(named)
    assert "224.0.0.0/4" in build_table(named)


def test_services_of_the_server_are_dns_alone_unless_they_are_allowed() -> None:
    tunnel = TUNNEL.model_copy(update={"dns": (ip_address("10.66.0.1"), ip_address("fd66::1"))})
    text = build_table(tunnel)
    assert 'iifname "wvpn0" ip daddr 10.66.0.1 meta l4proto { tcp, udp } th dport 53 accept' in text
    assert 'iifname "wvpn0" ip6 daddr fd66::1 meta l4proto { tcp, udp } th dport 53 accept' in text
    assert 'iifname "wvpn0" ct state != { established, related } counter drop' in text
    assert "hook input" not in build_table(tunnel.model_copy(update={"server_services": True}))


def test_removing_needs_no_table() -> None:
    assert remove_table() == "table inet warren_vpn\ndelete table inet warren_vpn\n"


def settings_of(root: Path, **values: str) -> None:
    for name, value in values.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


def read(root: Path, name: str) -> str:
    return (root / name).read_text().strip()


def test_forwarding_is_put_back(tmp_path: Path) -> None:
    net = tmp_path / "net"
    settings_of(
        net, ipv4__conf__wvpn0__forwarding="0", ipv4__conf__eth0__forwarding="0", ipv4__conf__eth1__forwarding="1",
        ipv6__conf__wvpn0__force_forwarding="0", ipv6__conf__eth0__force_forwarding="0",
        ipv6__conf__eth1__force_forwarding="0",
    )  # fmt: skip
    forwarding = Forwarding(tmp_path / "state", net)
    forwarding.enable("wvpn0", ["eth0", "eth1"], [4, 6])
    assert read(net, "ipv4/conf/eth0/forwarding") == read(net, "ipv6/conf/eth1/force_forwarding") == "1"
    assert Forwarding(tmp_path / "state", net).put_back()
    assert read(net, "ipv4/conf/eth0/forwarding") == read(net, "ipv6/conf/eth1/force_forwarding") == "0"
    assert read(net, "ipv4/conf/eth1/forwarding") == "1"
    assert not forwarding.put_back()


def test_an_older_kernel_forwards_ipv6_as_a_router_that_listens_to_routers(tmp_path: Path) -> None:
    net = tmp_path / "net"
    settings_of(net, ipv6__conf__all__forwarding="0", ipv6__conf__eth0__accept_ra="1", ipv6__conf__eth1__accept_ra="0")
    forwarding = Forwarding(tmp_path / "state", net)
    forwarding.enable("wvpn0", ["eth0", "eth1"], [6])
    assert read(net, "ipv6/conf/all/forwarding") == "1"
    assert (read(net, "ipv6/conf/eth0/accept_ra"), read(net, "ipv6/conf/eth1/accept_ra")) == ("2", "0")
    forwarding.put_back()
    assert read(net, "ipv6/conf/all/forwarding") == "0"
    assert read(net, "ipv6/conf/eth0/accept_ra") == "1"


def test_what_others_have_changed_since_stays(tmp_path: Path) -> None:
    net = tmp_path / "net"
    settings_of(net, ipv4__conf__wvpn0__forwarding="0", ipv4__conf__eth0__forwarding="0")
    forwarding = Forwarding(tmp_path / "state", net)
    forwarding.enable("wvpn0", ["eth0"], [4])
    settings_of(net, ipv4__conf__eth0__forwarding="2")
    forwarding.put_back()
    assert read(net, "ipv4/conf/eth0/forwarding") == "2"


@pytest.mark.parametrize("content", ["{", '[["a"]]', "7"])
def test_a_damaged_state_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "state").write_text(content)
    with pytest.raises(NetworkError, match="unreadable"):
        Forwarding(tmp_path / "state", tmp_path).put_back()


def test_a_state_file_names_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("1")
    (tmp_path / "state").write_text('[["../victim", "0", "1"], ["ipv4/conf/../../victim", "0", "1"]]')
    Forwarding(tmp_path / "state", tmp_path / "net").put_back()
    assert (tmp_path / "victim").read_text() == "1"
