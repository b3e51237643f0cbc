"""The data process between two of our endpoints: real TUN devices, sockets and offloads, in namespaces.

Everything that arrives is compared with what was sent; the counters show which path carried it.
"""

import ctypes
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_interface
from pathlib import Path

import pytest

from warren_ikev2.aio.offload import OffloadSession
from warren_ikev2.dataplane.seccomp import LIBRARY
from warren_lab.ping import Ping
from warren_lab.process import wait_until
from warren_testkit.lab.transfers import Host, exchange_burst, exchange_datagrams, transfer
from warren_testkit.lab.tunnel_bed import INNER, LIMIT_SECONDS, End, TunnelBed, TunnelOptions, make_tunnel

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]
DATA = random.Random(1).randbytes(8 << 20)
VERSIONS = (4, 6)


@pytest.fixture(scope="module")
def bed() -> Iterator[TunnelBed]:
    with make_tunnel() as made:
        yield made


def total(end: End, name: str) -> int:
    """A total of a data process, at most a second old."""
    return end.plane.totals.get(name, 0)


def wait_for(what: str, check: Callable[[], bool]) -> None:
    wait_until(check, what, LIMIT_SECONDS, os.getpid())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mss", [None, 1201, 536])
def test_streams_arrive_unchanged(bed: TunnelBed, version: int, mss: int | None) -> None:
    data = DATA if mss is None else DATA[: 1 << 20]
    transfer(data, bed.left.host(version), bed.right.host(version), mss=mss)
    transfer(data, bed.right.host(version), bed.left.host(version), mss=mss)


def test_streams_are_carried_by_trains(bed: TunnelBed) -> None:
    before = [total(end, "trains_sealed") for end in (bed.left, bed.right)]

    def are_carried() -> bool:
        transfer(DATA, bed.left.host(), bed.right.host())
        transfer(DATA, bed.right.host(), bed.left.host())
        trains = [total(end, "trains_sealed") - seen for end, seen in zip((bed.left, bed.right), before, strict=True)]
        return min(trains) > 20 and min(total(end, "merged") for end in (bed.left, bed.right)) > 1000

    wait_for("trains and merged packets", are_carried)
    for end in (bed.left, bed.right):
        assert total(end, "drops_malformed") == total(end, "drops_integrity") == total(end, "drops_replay") == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_datagrams_of_all_sizes_arrive_unchanged(bed: TunnelBed, version: int) -> None:
    sizes = [0, 1, 2, 3, 100, 1371, 1372, 1410, 1411, 1500, 4000, 65000]
    assert exchange_datagrams(sizes, bed.left.host(version), bed.right.host(version)) == sizes
    assert exchange_datagrams(sizes, bed.right.host(version), bed.left.host(version)) == sizes


@pytest.mark.parametrize("version", VERSIONS)
def test_datagrams_of_one_flow_are_merged_on_the_way(bed: TunnelBed, version: int) -> None:
    before = total(bed.right, "merged")

    def are_merged() -> bool:  # as many as are there when they are read
        for size in (64, 200, 1200):
            assert exchange_burst(40, size, bed.left.host(version), bed.right.host(version))
        return total(bed.right, "merged") >= before + 120

    wait_for("merged datagrams", are_merged)
    assert total(bed.right, "tun_errors") == 0


def test_packets_outside_the_selectors_are_not_sent(bed: TunnelBed) -> None:
    before = total(bed.left, "drops_no_sa")
    bed.left.namespace.run("ip", "route", "add", "10.99.0.1", "dev", bed.left.tun.name)
    bed.left.namespace.run("ping", "-n", "-c", "1", "-W", "0.2", "10.99.0.1", check=False)
    wait_for("the dropped packet", lambda: total(bed.left, "drops_no_sa") > before)


def test_the_data_process_has_no_privileges(bed: TunnelBed) -> None:
    status = Path(f"/proc/{bed.left.plane.process_id}/status").read_text().splitlines()
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in status)}
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000000000"}
    assert fields["NoNewPrivs"] == "1"
    if _has_seccomp():
        assert fields["Seccomp"] == "2"  # a filter
    if os.geteuid() == 0:
        assert fields["Uid"].split() == ["65534"] * 4


def _has_seccomp() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def test_a_rekey_under_load_loses_nothing(bed: TunnelBed) -> None:
    children = set(bed.left.session.children)
    left, right = (IPv4Address(INNER[4][end.side]) for end in (bed.left, bed.right))
    with Ping(bed.left.namespace, left, right, interval_seconds=0.005) as ping:
        assert ping.wait_for_reply(LIMIT_SECONDS) is not None
        for _ in range(10):
            bed.left.loop.run(bed.left.session.rekey())
            bed.right.loop.run(bed.right.session.rekey())
            assert ping.wait_for_reply(LIMIT_SECONDS, since=time.time()) is not None
    assert ping.counts().lost == 0
    assert not children & set(bed.left.session.children)
    transfer(DATA[: 1 << 20], bed.right.host(6), bed.left.host(6))


def test_several_clients_of_one_server(bed: TunnelBed) -> None:
    with bed.another_client("10.91.7.1") as third:
        other = Host(third.namespace, "10.91.7.1")
        for source, target in ((other, bed.right.host()), (bed.right.host(), other)):
            transfer(DATA[: 1 << 20], source, target)
            transfer(DATA[: 1 << 20], bed.left.host(), bed.right.host())
        assert total(third, "drops_selector") == total(bed.right, "drops_selector") == 0


def test_another_address_of_the_client(bed: TunnelBed) -> None:
    """MOBIKE: the data process gets another socket, and both ends the new path."""
    bed.left.namespace.add_address("wan", ip_interface("203.0.113.9/24"))
    bed.left.loop.run(bed.client.migrate("203.0.113.9"))
    wait_for("the new path", lambda: str(bed.right.session.path.remote.host) == "203.0.113.9")
    transfer(DATA[: 1 << 20], bed.left.host(), bed.right.host())
    transfer(DATA[: 1 << 20], bed.right.host(6), bed.left.host(6))


def test_a_killed_data_process_is_replaced_and_the_ike_sa_stays(bed: TunnelBed) -> None:
    session, old = bed.left.session, bed.left.plane.process_id
    assert old is not None
    ike, children = session.info, set(session.children)
    os.kill(old, signal.SIGKILL)
    wait_for("another data process", lambda: bed.left.plane.process_id not in (None, old))
    wait_for("new CHILD_SAs", lambda: bool(session.children) and not children & set(session.children))
    transfer(DATA[: 1 << 20], bed.left.host(), bed.right.host())
    transfer(DATA[: 1 << 20], bed.right.host(), bed.left.host())
    assert session.info is ike
    assert not session.closed


def test_a_lowered_path_mtu_is_answered_and_obeyed() -> None:
    """The outer MTU falls below what the TUN device still allows: senders are informed, nothing is black-holed."""
    with make_tunnel() as bed:
        transfer(DATA[: 1 << 20], bed.left.host(), bed.right.host())
        for end in (bed.left, bed.right):
            end.namespace.run("ip", "link", "set", "wan", "mtu", "1300")
        for version in VERSIONS:
            transfer(DATA[: 1 << 20], bed.left.host(version), bed.right.host(version))
            transfer(DATA[: 1 << 20], bed.right.host(version), bed.left.host(version))
        wait_for("ICMP answers", lambda: total(bed.left, "too_big_answers") > 0)
        sizes = [1000, 1300, 1400, 3000, 20000]
        assert exchange_datagrams(sizes, bed.left.host(), bed.right.host()) == sizes
        out = bed.left.namespace.run("ping", "-n", "-c", "2", "-M", "do", "-s", "1380", INNER[4][1], check=False)
        assert "0 received, +2 errors" in out


@pytest.mark.parametrize(
    "options",
    [
        TunnelOptions(esp="chacha20poly1305", outer_version=6),
        TunnelOptions(esp="aes256-sha256"),
        TunnelOptions(esp="aes128gcm16-esn"),
        TunnelOptions(vectorised=False),
        TunnelOptions(udp_gso=False),
    ],
    ids=["chacha-over-ipv6", "cbc", "esn", "without-numpy", "without-udp-gso"],
)
def test_other_tunnels_carry_streams_and_datagrams(options: TunnelOptions) -> None:
    with make_tunnel(options) as bed:
        for version in VERSIONS:
            transfer(DATA[: 1 << 20], bed.left.host(version), bed.right.host(version))
            transfer(DATA[: 1 << 20], bed.right.host(version), bed.left.host(version), mss=700)
            sizes = [0, 1, 1400, 30000]
            assert exchange_datagrams(sizes, bed.left.host(version), bed.right.host(version)) == sizes
            assert exchange_burst(40, 100, bed.right.host(version), bed.left.host(version))


def test_the_data_process_ends_with_its_endpoint() -> None:
    with make_tunnel() as bed:
        processes = [end.plane.process_id for end in (bed.left, bed.right)]
    for process_id in processes:
        assert process_id is not None
        wait_for("its end", lambda number=process_id: not Path(f"/proc/{number}").exists())  # type: ignore[misc]


def test_a_removed_tun_device_ends_the_data_process() -> None:
    with make_tunnel() as bed:
        process_id = bed.left.plane.process_id
        bed.left.namespace.run("ip", "link", "del", bed.left.tun.name)
        wait_for("the end of the data process", lambda: bed.left.plane.process_id is None)
        wait_for("its process", lambda: not Path(f"/proc/{process_id}").exists())
        assert isinstance(bed.left.session, OffloadSession)
        assert not bed.left.session.closed
        assert bed.left.plane.starts == 1
