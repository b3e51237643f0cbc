"""`warren vpn client` as a process, between two servers in namespaces: what passes, what leaves in clear, and what is put back."""

import os
import random
import signal
import threading
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from warren_ikev2.dataplane.tun import link_settings
from warren_lab.capture import Capture
from warren_lab.process import wait_until
from warren_testkit.lab.transfers import Host, transfer
from warren_testkit.lab.vpn_bed import OUTSIDE
from warren_testkit.lab.vpn_bed import make_vpn_bed as server_bed
from warren_testkit.lab.vpn_client_bed import (
    BEHIND,
    BEHIND6,
    BOTH,
    CLIENT_HOST,
    NEIGHBOUR,
    RESOLV_CONF,
    SERVERS,
    VpnBed,
    server_builder,
)
from warren_testkit.lab.vpn_client_process import LIMIT_S, ClientProcess
from warren_testkit.lab.vpn_devices import make_device, write_profile
from warren_vpn.client.commands import client_status

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]
DEVICE = "warren-vpn0"
ROUTER = "192.0.2.1"
VIRTUAL = ("10.77.0.1", "fd77::1")
SPLIT = ["10.50.0.0/16", "192.168.0.0/16"]
DATA = random.Random(1).randbytes(8 << 20)


def test_a_full_tunnel_carries_both_versions_and_is_put_back(bed: VpnBed) -> None:
    before = bed.snapshot()
    assert not bed.ping(BEHIND)
    with bed.capture(*VIRTUAL) as capture:
        client = bed.start(bed.profile())
        up = client.wait_for("vpn.up")
        assert up["addresses"] == list(VIRTUAL)
        for target in (BEHIND, BEHIND6, NEIGHBOUR):  # the last one is local, and stays reachable
            bed.wait_for_ping(target)
        assert not bed.ping(ROUTER)  # on the link too, but not private: an access point could have chosen it
        assert bed.resolv_conf.read_text().splitlines()[1:] == [f"nameserver {BEHIND}", f"nameserver {BEHIND6}"]
        status = client_status(bed.state)
        assert status is not None
        assert (status["state"], status["server"]) == ("up", SERVERS["one"][0])
        assert status["bytes_in"] > 0
        assert f"mtu {up['mtu']} " in (link := bed.client.run("ip", "-d", "link", "show", DEVICE))
        assert f" gso_max_segs {link_settings(up['mtu'])['gso_max_segs']} " in link
        check_capabilities(client.process.pid)
        for state in (bed.state, bed.folder / "another"):  # its end would take the rules of the first one away
            second: ClientProcess = replace(bed, state=state).start(bed.profile())
            assert second.process.wait(LIMIT_S) == 1
            assert "warren vpn down" in second.errors.read_text()
        assert client.end() == 0
    assert capture.clear_packets() == []
    assert {flow.udp_encapsulated for flow in capture.flows()} == {True}
    bed.assert_put_back(before)


def check_capabilities(process_id: int) -> None:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process_id}/status").read_text().splitlines())
    kept = {number for number in range(64) if int(status["CapEff"], 16) >> number & 1}
    assert kept == {12, 5, 6, 7}  # NET_ADMIN; KILL, SETGID, SETUID for the data process
    assert status["CapBnd"] == status["CapEff"]
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("switch", ["when-up", pytest.param("off", marks=pytest.mark.promises)])
def test_a_split_tunnel_carries_its_routes_only(bed: VpnBed, switch: str) -> None:
    before = bed.snapshot()
    client = bed.start(bed.profile(routes=SPLIT), "--kill-switch", switch)
    assert client.wait_for("vpn.up")["addresses"] == [VIRTUAL[0]]
    for target in (BEHIND, ROUTER, NEIGHBOUR):  # the last one lies within a route, but on a link of this host
        bed.wait_for_ping(target)
    assert client.end() == 0
    bed.assert_put_back(before)


def test_an_ipv6_server_and_an_ipv4_only_one(bed: VpnBed) -> None:
    """Over IPv6 outside; without an IPv6 address inside, IPv6 is unreachable rather than in clear."""
    one = bed.servers["one"]
    bed.restart("one", server_builder(one.key, bed.identity, pools=("10.77.0.0/24",)), SERVERS["one"][1])
    try:
        client = bed.start(bed.profile(servers=[{"host": SERVERS["one"][1]}]))
        client.wait_for("vpn.up")
        assert "no IPv6 address" in client.wait_for("vpn.remark")["message"]
        bed.wait_for_ping(BEHIND)
        assert "unreachable" in bed.client.run("ip", "-6", "route", "get", BEHIND6, check=False) + bed.client.run(
            "ip", "-6", "route", "show", "table", "5187"
        )
        assert not bed.ping("2001:db8:2::1")
    finally:
        bed.restart("one")


# ---- killed parts, with the kill switch


def test_with_the_kill_switch_nothing_leaves_in_clear_after_kill_9(bed: VpnBed) -> None:
    before = bed.snapshot()
    with bed.capture(*VIRTUAL, NEIGHBOUR) as capture:
        client = bed.start(bed.profile(kill_switch=True))
        client.wait_for("vpn.up")
        bed.wait_for_ping(BEHIND)
        client.kill()
        for target in (BEHIND6, NEIGHBOUR):
            assert not bed.ping(target)
        again = bed.start(bed.profile(kill_switch=True))
        again.wait_for("vpn.recovered")
        again.wait_for("vpn.up")
        bed.wait_for_ping(BEHIND6)
        assert again.end() == 0
        assert not bed.ping(BEHIND)  # `always` outlives the client
        assert bed.resolv_conf.read_text() == RESOLV_CONF
        assert "put back" in bed.verb("down")
    assert capture.clear_packets() == []
    bed.assert_put_back(before)
    assert "nothing to put back" in bed.verb("restore")


def test_a_kill_switch_that_the_host_does_not_take_is_not_said_to_be_in_force(bed: VpnBed) -> None:
    client = bed.start(bed.profile(), "--kill-switch", "always", before=["env", "PATH=/nonexistent"])
    assert client.process.wait(LIMIT_S) == 1
    assert "install nftables" in client.wait_for("vpn.failed")["message"]
    (said,) = [one["message"] for one in client.events if one["event"] == "vpn.kill-switch"]
    assert said == "the kill switch is not in force: packets leave in clear"


def test_a_killed_data_process_is_replaced(bed: VpnBed) -> None:
    with bed.capture(*VIRTUAL) as capture:
        client = bed.start(bed.profile(kill_switch=True))
        client.wait_for("vpn.up")
        bed.wait_for_ping(BEHIND)
        (data,) = client.children()
        os.kill(data, signal.SIGKILL)
        wait_until(lambda: client.children() not in ([], [data]), "another data process", LIMIT_S, client.process.pid)
        bed.wait_for_ping(BEHIND)
        assert [one["event"] for one in client.events].count("vpn.up") == 1  # the IKE_SA has stayed
        assert client.end() == 0
    assert capture.clear_packets() == []


_KILLER = """
import os, signal, sys
from warren_vpn.host import host, journal
left = [int(sys.argv.pop(1))]
def step():
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
write, apply = journal.Journal.write, host._apply
def counted_write(self, record):
    write(self, record)
    step()
async def counted_apply(routing, change):
    await apply(routing, change)
    step()
journal.Journal.write, host._apply = counted_write, counted_apply
from warren_vpn.commands import app
app()
"""


@pytest.mark.parametrize("step", [18])
def test_a_client_that_is_killed_while_it_connects_is_put_back(bed: VpnBed, step: int) -> None:
    """After the `step`th write of the journal or change of the host."""
    check_killed_at(bed, step)


@pytest.mark.promises
@pytest.mark.parametrize("step", [*range(1, 18), 19, 20])
def test_a_client_that_is_killed_at_any_other_step_is_put_back(bed: VpnBed, step: int) -> None:
    check_killed_at(bed, step)


def check_killed_at(bed: VpnBed, step: int) -> None:
    before = bed.snapshot()
    with bed.capture(*VIRTUAL) as capture:
        client = bed.start(bed.profile(kill_switch=True), program=[_KILLER, str(step)])
        assert client.process.wait(LIMIT_S) == -signal.SIGKILL, client.errors.read_text()
        bed.ping(BEHIND)
        if step > 2:  # before, neither the kill switch nor anything else was in force
            assert capture.clear_packets() == []
        bed.verb("restore")
    bed.assert_put_back(before)


# ---- the network changes


def test_the_tunnel_follows_the_hosts_address(bed: VpnBed) -> None:
    client = bed.start(bed.profile(kill_switch=True))
    client.wait_for("vpn.up")
    bed.wait_for_ping(BEHIND)
    run = bed.client.run
    try:
        with bed.capture(*VIRTUAL) as capture:
            run("ip", "address", "add", "192.0.2.130/25", "dev", "wan")
            run("ip", "route", "replace", "default", "via", ROUTER, "dev", "wan", "onlink", "src", "192.0.2.130")
            run("ip", "address", "del", f"{CLIENT_HOST}/24", "dev", "wan")
            assert client.wait_for("vpn.moved")["local"] == "192.0.2.130"
            bed.wait_for_ping(BEHIND)
        assert [one["event"] for one in client.events].count("vpn.up") == 1
        assert capture.clear_packets() == []
        assert client.end() == 0
    finally:
        run("ip", "address", "del", "192.0.2.130/25", "dev", "wan", check=False)
        run("ip", "address", "replace", f"{CLIENT_HOST}/24", "dev", "wan")
        run("ip", "route", "replace", "default", "via", ROUTER, "dev", "wan")


def test_the_second_server_is_used_when_the_first_one_is_killed(bed: VpnBed) -> None:
    """And the first one again once it is back, after the hold-down."""
    bed.share_key()
    with bed.capture(*VIRTUAL) as capture:
        client = bed.start(bed.profile(servers=BOTH, kill_switch=True, inactivity_s=10), "--hold-down", "1")
        assert client.wait_for("vpn.up")["server"] == SERVERS["one"][0]
        bed.wait_for_ping(BEHIND)
        bed.servers["one"].stop()
        bed.ping(BEHIND)
        assert client.wait_for("vpn.up", 2)["server"] == SERVERS["two"][0]
        bed.wait_for_ping(BEHIND)
        bed.restart("one")
        assert client.wait_for("vpn.up", 3)["server"] == SERVERS["one"][0]
        bed.wait_for_ping(BEHIND)
        assert client.end() == 0
    assert capture.clear_packets() == []


def test_a_rekey_under_load_loses_nothing(bed: VpnBed) -> None:
    client = bed.start(bed.profile())
    client.wait_for("vpn.up")
    server = bed.servers["one"]
    inside, behind = Host(bed.client, VIRTUAL[0]), Host(server.space, BEHIND)
    failures: list[BaseException] = []

    def rekey() -> None:
        try:
            for _ in range(3):
                server.rekey()
        except BaseException as error:  # noqa: BLE001  for the other thread
            failures.append(error)

    rekeying = threading.Thread(target=rekey)
    rekeying.start()
    transfer(DATA, inside, behind)
    transfer(DATA, behind, inside)
    rekeying.join(LIMIT_S)
    assert failures == []
    assert [one["event"] for one in client.events].count("vpn.up") == 1
    assert client.end() == 0


def test_a_removed_tun_device_is_made_again(bed: VpnBed) -> None:
    client = bed.start(bed.profile())
    client.wait_for("vpn.up")
    bed.client.run("ip", "link", "del", "warren-vpn0")
    assert "removed the TUN device" in client.wait_for("vpn.reconnecting")["message"]
    client.wait_for("vpn.up", 2)
    bed.wait_for_ping(BEHIND)
    assert client.end() == 0


def test_a_resolv_conf_that_is_mounted_is_written_in_place(bed: VpnBed) -> None:
    """As in containers: a bind mount cannot be replaced by another file."""
    bed.lab.folder.joinpath("mounted").write_text(RESOLV_CONF)
    mount = f'mount --bind {bed.lab.folder}/mounted {bed.resolv_conf}; exec "$@"'
    client = bed.start(bed.profile(), before=["unshare", "--mount", "sh", "-c", mount, "sh"])
    client.wait_for("vpn.up")
    assert f"nameserver {BEHIND}" in bed.lab.folder.joinpath("mounted").read_text()
    assert client.end() == 0
    assert bed.lab.folder.joinpath("mounted").read_text() == RESOLV_CONF


@pytest.mark.promises
def test_a_killed_server_is_used_again_once_it_is_back() -> None:
    """The real server, killed while the tunnel carries traffic: nothing in clear, and the same addresses afterwards."""
    with server_bed() as bed:
        bed.write_settings(limits="inactivity_s = 10", users={"alice": ""})
        bed.start()
        client_bed = make_device(bed, "alice")
        profile = write_profile(bed, client_bed, "alice", inactivity_s=10, kill_switch=True)
        inner = frozenset(map(ip_address, ("203.0.113.10", *OUTSIDE.values(), "10.66.0.2", "fd66::2")))
        client = client_bed.start(profile)
        try:
            addresses = client.wait_for("vpn.up")["addresses"]
            client_bed.wait_for_ping(OUTSIDE[4])
            with Capture(client_bed.client, "wan", inner) as capture:
                bed.kill()
                assert not client_bed.ping(OUTSIDE[4])
                client.wait_for("vpn.reconnecting")
                bed.start()
                assert client.wait_for("vpn.up", 2)["addresses"] == addresses
                client_bed.wait_for_ping(OUTSIDE[6])
            assert capture.clear_packets() == []
            assert capture.frames > 0
        finally:
            client_bed.end_clients()
