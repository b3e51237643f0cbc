"""Kernel switches that contradict a tunnel."""

from pathlib import Path

import pytest

from warren_agent import switches
from warren_agent.switches import READ_INTERVAL, HostSwitches
from warren_contracts.status import ReasonCode, TunnelState, TunnelStatus
from warren_contracts.tunnel import Tunnel
from warren_testkit.intent import ipsec_tunnel

UP = TunnelStatus(name="hub+spoke", state=TunnelState.UP)
DEVICE = "ipsec0"


class Host:
    """A folder like /proc/sys/net, and the inspector of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, 0.0
        self.switches = HostSwitches([DEVICE, "missing0"], lambda: self.clock, folder)

    def set(self, key: str, value: str) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)

    def found(self, tunnel: Tunnel) -> list[ReasonCode]:
        self.clock += READ_INTERVAL
        return [it.code for it in self.switches.findings(tunnel, UP)]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(switches, "forwards_ipv4", lambda: True)
    return Host(tmp_path)


def test_host_that_shows_nothing_is_not_suspected(host: Host) -> None:
    assert host.found(ipsec_tunnel()) == []


def test_forwarding_concerns_tunnels_with_networks_behind_this_end(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "forwards_ipv4", lambda: False)
    host.set("ipv6/conf/all/forwarding", "0\n")
    assert host.found(ipsec_tunnel()) == [ReasonCode.FORWARDING_OFF]
    assert host.found(ipsec_tunnel(child={"local_ts": ["192.0.2.1/32"]})) == []
    assert host.found(ipsec_tunnel(child={"local_ts": ["dynamic"]})) == []
    both = {"local_ts": ["10.1.0.0/16", "2001:db8:1::/48"], "remote_ts": ["10.0.0.0/16", "2001:db8:2::/48"]}
    assert host.found(ipsec_tunnel(child=both)) == [ReasonCode.FORWARDING_OFF] * 2
    monkeypatch.setattr(switches, "forwards_ipv4", lambda: None)  # it cannot be read
    assert host.found(ipsec_tunnel()) == []


@pytest.mark.parametrize(
    ("of_all", "own", "strict"),
    [("0", "1", True), ("1", "0", True), ("2", "1", False), ("0", "0", False), ("1", "", False)],
)
def test_reverse_path_filter_in_force_is_the_greater_one_of_a_device_that_exists(
    host: Host, of_all: str, own: str, strict: bool
) -> None:
    host.set("ipv4/conf/all/rp_filter", of_all)
    if own:
        host.set(f"ipv4/conf/{DEVICE}/rp_filter", own)
    assert host.found(ipsec_tunnel()) == [ReasonCode.RP_FILTER] * strict


def test_what_was_read_is_used_for_a_while(host: Host) -> None:
    host.found(ipsec_tunnel())
    host.set(f"ipv4/conf/{DEVICE}/rp_filter", "1")
    assert list(host.switches.findings(ipsec_tunnel(), UP)) == []
    assert host.found(ipsec_tunnel()) == [ReasonCode.RP_FILTER]
