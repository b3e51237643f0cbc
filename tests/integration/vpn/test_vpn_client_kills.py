"""kill -9 of the client's data process at each step: while it connects, is rekeyed, and follows the host to another address."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from warren_lab.lab import can_make_namespaces
from warren_testkit.lab.vpn_client_bed import BEHIND, BEHIND6, CLIENT_HOST, VpnBed
from warren_testkit.lab.vpn_client_process import ClientProcess

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not can_make_namespaces(), reason="needs root, or a user namespace with capabilities"),
]
ROUTER = "192.0.2.1"
VIRTUAL = ("10.77.0.1", "fd77::1")
_KILLER = """
import json, os, signal, sys
from warren_ikev2.aio import data_plane, offload
from warren_ikev2.dataplane import control
from warren_vpn.client import movement, session
from warren_vpn.host import host
phase, left = sys.argv.pop(1), [int(sys.argv.pop(1))]
state = {"plane": None, "counting": phase == "connect"}
def step():
    plane = state["plane"]
    if state["counting"] and plane is not None and plane.process_id is not None:
        left[0] -= 1
        if left[0] == 0:
            process_id = plane.process_id
            os.kill(process_id, signal.SIGKILL)
            os.waitid(os.P_PID, process_id, os.WEXITED | os.WNOWAIT)  # it is gone before anything else happens
            print(json.dumps({"event": "test.killed"}), flush=True)
def counted(owner, name, begins=None):
    call = getattr(owner, name)
    def wrapper(*arguments, **options):
        if name == "start":
            state["plane"] = arguments[0]
        if begins == phase:
            state["counting"] = True
        if any(isinstance(one, control.Statistics) for one in arguments):  # they come by the clock
            return call(*arguments, **options)
        step()
        result = call(*arguments, **options)
        step()
        return result
    setattr(owner, name, wrapper)
counted(data_plane.DataPlane, "start")
counted(data_plane.DataPlane, "send")
counted(offload.OffloadDriver, "take_message")
counted(host, "_apply")
counted(session.VpnSession, "_watch", "rekey")
counted(movement.Movement, "follow", "move")
from warren_vpn.commands import app
app()
"""
"""The client, whose data process is killed before or after the given one of these calls. The last two begin the count of their phase."""
CONNECT, REKEY, MOVE = 34, 14, 10
"""How many steps each phase has."""


@contextmanager
def connected(bed: VpnBed, phase: str, step: int) -> Iterator[ClientProcess]:
    """A client under the kill switch, and pings all the time; at the end traffic passes, none was in clear, and all is put back."""
    before = bed.snapshot()
    pings = [bed.client.spawn("ping", "-n", "-i", "0.02", "-W", "1", target) for target in (BEHIND, BEHIND6)]
    try:
        client = bed.start(bed.profile(kill_switch=True), program=[_KILLER, phase, str(step)])
        client.wait_for("vpn.kill-switch")
        with bed.capture(*VIRTUAL) as capture:
            yield client
            client.wait_for("test.killed")
            assert "SIGKILL" in client.wait_for("vpn.data-process")["message"]
            client.wait_for("vpn.up")
            for target in (BEHIND, BEHIND6):
                bed.wait_for_ping(target)
            assert client.end() == 0
            assert not bed.ping(BEHIND)
        assert capture.clear_packets() == []
        assert capture.frames > 0
    finally:
        for ping in pings:
            ping.kill()
            ping.wait()
    assert "put back" in bed.verb("down")
    bed.assert_put_back(before)


def check_connect(bed: VpnBed, step: int) -> None:
    with connected(bed, "connect", step):
        pass


def check_rekey(bed: VpnBed, step: int) -> None:
    with connected(bed, "rekey", step) as client:
        client.wait_for("vpn.up")
        bed.servers["one"].rekey()


def check_move(bed: VpnBed, step: int) -> None:
    run = bed.client.run
    try:
        with connected(bed, "move", step) as client:
            client.wait_for("vpn.up")
            run("ip", "address", "add", "192.0.2.130/25", "dev", "wan")
            run("ip", "route", "replace", "default", "via", ROUTER, "dev", "wan", "onlink", "src", "192.0.2.130")
            run("ip", "address", "del", f"{CLIENT_HOST}/24", "dev", "wan")
            client.wait_for("test.killed")
            run("ip", "address", "replace", f"{CLIENT_HOST}/24", "dev", "wan")
            run("ip", "route", "replace", "default", "via", ROUTER, "dev", "wan")
            run("ip", "address", "del", "192.0.2.130/25", "dev", "wan")
    finally:
        run("ip", "address", "del", "192.0.2.130/25", "dev", "wan", check=False)
        run("ip", "address", "replace", f"{CLIENT_HOST}/24", "dev", "wan")
        run("ip", "route", "replace", "default", "via", ROUTER, "dev", "wan")


@pytest.mark.parametrize("step", [5])
def test_a_data_process_that_is_killed_while_the_client_connects_is_replaced(bed: VpnBed, step: int) -> None:
    check_connect(bed, step)


@pytest.mark.promises
@pytest.mark.parametrize("step", [step for step in range(1, CONNECT + 1) if step != 5])
def test_a_data_process_that_is_killed_at_any_other_step_is_replaced(bed: VpnBed, step: int) -> None:
    check_connect(bed, step)


@pytest.mark.promises
@pytest.mark.parametrize("step", range(1, REKEY + 1))
def test_a_data_process_that_is_killed_at_each_step_of_a_rekeying_is_replaced(bed: VpnBed, step: int) -> None:
    check_rekey(bed, step)


@pytest.mark.promises
@pytest.mark.parametrize("step", range(1, MOVE + 1))
def test_a_data_process_that_is_killed_at_each_step_of_a_move_is_replaced(bed: VpnBed, step: int) -> None:
    check_move(bed, step)
