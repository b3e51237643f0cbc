"""Two devices with one user: the real server, and `warren vpn client` on each."""

from collections.abc import Iterator

import pytest

from warren_lab.lab import can_make_namespaces
from warren_testkit.lab.vpn_bed import OUTSIDE, VpnBed, make_vpn_bed
from warren_testkit.lab.vpn_client_bed import VpnBed as Device
from warren_testkit.lab.vpn_client_process import LIMIT_S
from warren_testkit.lab.vpn_devices import make_device, write_profile
from warren_vpn.server.control import Reloaded, ReloadRequest

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not can_make_namespaces(), reason="needs root, or a user namespace with capabilities"),
]


@pytest.fixture
def bed() -> Iterator[VpnBed]:
    with make_vpn_bed() as made:
        yield made
        assert made.stop() == 0
        made.process = None


def start(bed: VpnBed, same_user: str) -> tuple[Device, Device]:
    bed.write_settings(limits=f'same_user = "{same_user}"', users={"alice": ""})
    bed.start()
    return make_device(bed, "alice", "phone"), make_device(bed, "alice", "laptop")


def test_a_device_that_another_one_replaces_says_so_and_stays_off(bed: VpnBed) -> None:
    """Otherwise both would end each other's sessions for ever."""
    phone, laptop = start(bed, "replace")
    before = phone.snapshot()
    first = phone.start(write_profile(bed, phone, "alice"))
    first.wait_for("vpn.up")
    second = laptop.start(write_profile(bed, laptop, "alice"))
    second.wait_for("vpn.up")
    try:
        assert first.process.wait(LIMIT_S) == 1
        failed = first.wait_for("vpn.failed")
        assert failed["reason"] == "session-replaced"
        assert failed["message"].startswith("stopped: alice has logged in elsewhere")
        assert [one["event"] for one in first.events].count("vpn.connecting") == 1
        phone.assert_put_back(before)
        laptop.wait_for_ping(OUTSIDE[4])
        (session,) = bed.status().sessions
        assert session.endpoint.startswith(bed.address_of("laptop"))
    finally:
        assert second.end() == 0


def test_two_devices_stay_connected_where_the_server_keeps_both(bed: VpnBed) -> None:
    devices = start(bed, "keep")
    clients = [device.start(write_profile(bed, device, "alice")) for device in devices]
    try:
        for client in clients:
            client.wait_for("vpn.up")
        assert bed.status().connected == 2
        for device in devices:
            device.wait_for_ping(OUTSIDE[4])
    finally:
        for client in clients:
            assert client.end() == 0


def test_a_second_device_waits_where_the_server_refuses_it(bed: VpnBed) -> None:
    """And connects once the first one is gone."""
    phone, laptop = start(bed, "refuse")
    first = phone.start(write_profile(bed, phone, "alice"))
    first.wait_for("vpn.up")
    second = laptop.start(write_profile(bed, laptop, "alice"))
    try:
        second.wait_for("vpn.waiting")
        phone.wait_for_ping(OUTSIDE[4])
        assert first.end() == 0
        second.wait_for("vpn.up")
    finally:
        assert second.end() == 0


def test_a_server_without_users_says_that_nobody_can_log_in(bed: VpnBed) -> None:
    """And so do its clients: without a user the engine has no connection for them."""
    phone, _ = start(bed, "replace")
    profile = write_profile(bed, phone, "alice")
    bed.write_settings(users={})
    assert bed.ask(ReloadRequest(), Reloaded).users == 0
    assert '"event": "users.none"' in bed.log
    client = phone.start(profile)
    client.wait_for_text("vpn.attempt-failed", "it has no user")
    assert client.end() == 0
