"""kill -9 of the server and of its data process at each step: while it starts, during handshakes and rekeyings, and while it stops."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from warren_ikev2.errors import IkeError
from warren_lab.process import wait_until
from warren_testkit.lab.vpn_bed import INSIDE, LIMIT_SECONDS, VpnBed, make_vpn_bed

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]
_KILLER = """
import os, signal, sys
from warren_ikev2.aio import data_plane
from warren_vpn.server import cleaner, control_server, network, run, service, sysctl
left = [int(sys.argv.pop(1))]
def counted(owner, name):
    call = getattr(owner, name)
    def wrapper(*arguments, **options):
        step()
        result = call(*arguments, **options)
        step()
        return result
    setattr(owner, name, wrapper)
def step():
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
counted(network, "run")
counted(sysctl.Forwarding, "_write")
counted(run, "open_ports")
counted(run, "Cleaner")
counted(data_plane.DataPlane, "start")
counted(run, "drop_privileges")
counted(run, "notify_systemd")
counted(service.VpnServer, "stop")
counted(control_server.ControlServer, "close")
from warren_vpn.commands import app
app()
"""
"""The server, killed before or after the given call of those that change something. The cleaner counts on from where it is forked, so that
some numbers kill both.
"""
FORWARDING = 22
"""Everything is changed, and there is no cleaner yet."""
STEPS = 40
"""32 until the server is ready, the others until its end."""


@pytest.fixture(scope="module")
def bed() -> Iterator[VpnBed]:
    with make_vpn_bed() as made:
        made.write_settings(limits="inactivity_s = 10", users={"alice": "", "bob": ""})
        yield made


def host(bed: VpnBed) -> tuple[str, str, str]:
    """What the server changes on its host: table, forwarding, device."""
    run = bed.namespace.run
    forwarding = [run("cat", f"/proc/sys/net/{name}").strip() for name in (
        "ipv4/conf/uplink/forwarding", "ipv6/conf/all/forwarding",
    )]  # fmt: skip
    return run("nft", "list", "tables"), " ".join(forwarding), run("ip", "-br", "link", "show", "type", "tun")


def check_killed_at(bed: VpnBed, step: int) -> None:
    """The host is as before once the cleaner, if there is one already, or the next start and its end are done."""
    before = host(bed)
    options = ("server", "run", "--config", str(bed.settings), "--json")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (bed.folder / "log").open("ab") as log:
        process = bed.process = bed.namespace.spawn(
            sys.executable, "-c", _KILLER, str(step), *options, env=environment, stdout=log
        )
        wait_until(lambda: process.poll() is not None or bed.answers(), "killed, or ready", LIMIT_SECONDS)
        if process.poll() is None:  # it may be killed while it ends
            process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_SECONDS) == -signal.SIGKILL, bed.log[-2000:]
    bed.start()
    with bed.client("alice") as alice:
        wait_until(lambda: alice.reaches(INSIDE[4], within_s=2), "the server answers inside", LIMIT_SECONDS)
    assert bed.stop() == 0
    bed.process = None
    assert host(bed) == before
    assert not (bed.folder / "network.json").exists()


@pytest.mark.parametrize("step", [FORWARDING])
def test_a_server_that_is_killed_while_it_starts_is_put_back(bed: VpnBed, step: int) -> None:
    check_killed_at(bed, step)


@pytest.mark.promises
@pytest.mark.parametrize("step", [step for step in range(1, STEPS + 1) if step != FORWARDING])
def test_a_server_that_is_killed_at_any_other_step_is_put_back(bed: VpnBed, step: int) -> None:
    check_killed_at(bed, step)


@contextlib.contextmanager
def running(bed: VpnBed) -> Iterator[VpnBed]:
    bed.start()
    yield bed
    assert bed.stop() == 0
    bed.process = None


def kill_data_process(bed: VpnBed) -> int:
    """Returns how often it had been started."""
    status = bed.status()
    assert status.data_process_id is not None
    os.kill(status.data_process_id, signal.SIGKILL)
    return status.data_process_starts


def test_a_data_process_that_is_killed_during_handshakes_and_rekeyings_is_replaced(bed: VpnBed) -> None:
    with running(bed), bed.client("alice") as alice:
        # the handshake itself goes through the data process
        starts = kill_data_process(bed)
        with bed.client("bob") as bob:
            bed.wait_for("a new data process", lambda it: it.data_process_starts > starts)
            wait_until(
                lambda: bob.reaches(INSIDE[4], within_s=2), "the client that came meanwhile has a tunnel", LIMIT_SECONDS
            )
            wait_until(lambda: alice.reaches(INSIDE[4], within_s=2), "so has the one before", LIMIT_SECONDS)
            starts = kill_data_process(bed)
            with contextlib.suppress(IkeError):  # a rekeying that the end of the process interrupts
                alice.loop.run(alice.client.rekey(), LIMIT_SECONDS)
            bed.wait_for("a new data process", lambda it: it.data_process_starts > starts)
            for client in (alice, bob):
                wait_until(partial(client.reaches, INSIDE[4], within_s=2), f"{client.name} has a tunnel", LIMIT_SECONDS)
            assert bed.status().connected == 2


@pytest.mark.promises
def test_a_data_process_that_is_killed_again_and_again_is_started_each_time(bed: VpnBed) -> None:
    with running(bed), bed.client("alice") as alice:
        for _ in range(3):
            starts = kill_data_process(bed)
            bed.wait_for("a new data process", lambda it, starts=starts: it.data_process_starts > starts)  # type: ignore[misc]
        wait_until(lambda: alice.reaches(INSIDE[4], within_s=2), "traffic passes again", LIMIT_SECONDS)
        assert not alice.session.closed
