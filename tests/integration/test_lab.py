"""The lab on real parts: two charons in two namespaces, raw Ed25519 keys by VICI, pings through real ESP."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_interface
from pathlib import Path

import pytest
import vici
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from warren_lab.capture import Capture
from warren_lab.charon import Charon
from warren_lab.errors import CommandFailedError, LabError
from warren_lab.lab import Lab
from warren_lab.ping import Ping
from warren_lab.sandbox import in_sandbox
from warren_stack.run_as import NOBODY, run_as

pytestmark = [
    pytest.mark.root,
    pytest.mark.usefixtures("namespaces"),
]

LIMIT_SECONDS = 60.0
INNER = (IPv4Address("10.81.1.1"), IPv4Address("10.81.2.1"))
OUTER = (IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2"))


@dataclass
class Pair:
    """Two linked gateways, their daemons running."""

    lab: Lab
    charons: tuple[Charon, Charon]
    keys: tuple[Ed25519PrivateKey, Ed25519PrivateKey]


@contextlib.contextmanager
def session(charon: Charon) -> Iterator[vici.Session]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(90)
        connection.connect(str(charon.vici_path))
        yield vici.Session(connection)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Lab() as lab:
        left, right = lab.namespace("left"), lab.namespace("right")
        lab.link(left, "wan", f"{OUTER[0]}/30", right, "wan", f"{OUTER[1]}/30")
        charons = []
        for namespace, inner, outer in zip((left, right), INNER, reversed(OUTER), strict=True):
            namespace.add_address("lo", ip_interface(f"{inner}/32"))
            namespace.add_default_route(str(outer))
            charon = lab.charon(namespace)
            charon.start()
            charons.append(charon)
        yield Pair(lab, (charons[0], charons[1]), (Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()))


def load(pair: Pair, own: int) -> None:
    peer = 1 - own
    private = pair.keys[own].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = [
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in pair.keys
    ]
    connection = {
        "version": "2",
        "local_addrs": [str(OUTER[own])],
        "remote_addrs": [str(OUTER[peer])],
        "proposals": ["aes256gcm16-prfsha256-x25519"],
        "local": {"auth": "pubkey", "id": f"gateway-{own}", "pubkeys": [public[own]]},
        "remote": {"auth": "pubkey", "id": f"gateway-{peer}", "pubkeys": [public[peer]]},
        "children": {
            "net": {
                "local_ts": [f"{INNER[own]}/32"],
                "remote_ts": [f"{INNER[peer]}/32"],
                "esp_proposals": ["aes256gcm16-x25519"],
            }
        },
    }
    with session(pair.charons[own]) as control:
        control.load_key({"type": "any", "data": private})
        control.load_conn({"pair": connection})


def establish(pair: Pair) -> frozenset[int]:
    """Bring the tunnel up and return the SPIs of its CHILD_SA."""
    for own in (0, 1):
        load(pair, own)
    with session(pair.charons[0]) as control:
        list(control.initiate({"child": "net", "timeout": "60000"}))
        (sas,) = list(control.list_sas())
    (child,) = sas["pair"]["child-sas"].values()
    return frozenset(int(child[end], 16) for end in ("spi-in", "spi-out"))


def test_lab_moves_ping_through_esp_and_shows_nothing_in_clear(pair: Pair) -> None:
    left = pair.lab.namespaces["left"]
    spis = establish(pair)
    with Capture(left, "wan", frozenset(INNER)) as capture, Ping(left, *INNER) as ping:
        assert ping.wait_for_reply(LIMIT_SECONDS) is not None
        counts = ping.stop()
    assert counts.received >= 1
    assert counts.lost == 0
    assert capture.spis() == spis
    assert {(flow.source, flow.destination) for flow in capture.flows()} == {OUTER, OUTER[::-1]}
    assert all(flow.udp_encapsulated for flow in capture.flows())
    assert capture.clear_packets() == []
    assert capture.dropped == 0


def test_capture_sees_inner_addresses_in_clear_without_a_tunnel(pair: Pair) -> None:
    left = pair.lab.namespaces["left"]
    with Capture(left, "wan", frozenset(INNER)) as capture, Ping(left, *INNER) as ping:
        # No tunnel: the packets leave by the default route, and the peer answers the same way.
        assert ping.wait_for_reply(LIMIT_SECONDS) is not None
    assert capture.spis() == frozenset()
    assert (capture.clear_packets()[0].source, capture.clear_packets()[0].destination) == INNER


def test_charon_restart_forgets_what_was_loaded(pair: Pair) -> None:
    establish(pair)
    charon = pair.charons[0]
    before = charon.process_id
    charon.restart()
    assert charon.process_id != before
    with session(charon) as control:
        assert list(control.list_sas()) == []
        assert control.get_conns()["conns"] == []


def test_charon_starts_again_after_a_kill(pair: Pair) -> None:
    charon = pair.charons[0]
    charon.kill()
    assert not charon.is_running
    charon.start()
    assert "uptime: " in charon.swanctl("--stats")


def test_charon_that_cannot_start_says_why(pair: Pair) -> None:
    broken = pair.lab.charon(pair.lab.namespaces["left"], {"charon": {"load_modular": "no", "load": "no-such-plugin"}})
    pair.charons[0].stop()
    with pytest.raises(LabError, match="VICI socket"):
        broken.start()
    assert not broken.is_running


def test_ping_counts_lost_requests(pair: Pair) -> None:
    left = pair.lab.namespaces["left"]
    with Ping(left, INNER[0], INNER[1], late_reply_seconds=0.0) as ping:
        assert ping.wait_for_reply(LIMIT_SECONDS) is not None
        left.run("ip", "route", "replace", "blackhole", str(INNER[1]))
        answered = ping.counts().received
        while ping.counts().sent < answered + 20:
            assert ping.wait_for_reply(0.05, since=float("inf")) is None
        counts = ping.stop()
    assert counts.lost > 0


def test_lab_leaves_nothing_behind_after_a_failure() -> None:
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab())
        namespace = lab.namespace("one")
        host_device = lab.host_link(namespace, "mgmt", "198.18.255.2/30", "198.18.255.1/30")
        child = namespace.spawn("sleep", "600")
        charon = lab.charon(namespace)
        charon.start()
        daemon = charon.process_id
        with pytest.raises(CommandFailedError, match="exit code 1"):
            namespace.run("false")
    assert child.poll() is not None
    assert not Path(f"/proc/{daemon}").exists()
    assert not namespace.path.exists()
    assert not lab.folder.exists()
    assert host_device not in [name for _, name in socket.if_nameindex()]


def test_children_of_a_killed_lab_end(tmp_path: Path) -> None:
    script = (
        "import signal, sys\n"
        "from warren_lab.lab import Lab\n"
        "lab = Lab()\n"
        "charon = lab.charon(lab.namespace('orphan'))\n"
        "charon.start()\n"
        "print(charon.process_id, lab.namespaces['orphan'].name, lab.folder, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout is not None
        process_id, namespace, folder = victim.stdout.readline().split()
        descriptor = os.pidfd_open(int(process_id))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
    try:
        _wait_readable(descriptor)
    finally:
        os.close(descriptor)
        subprocess.run(["ip", "netns", "del", namespace], check=True)
        subprocess.run(["rm", "-r", folder], check=True)


def _wait_readable(descriptor: int) -> None:
    assert select.select([descriptor], [], [], LIMIT_SECONDS)[0], "charon outlived the lab's process"


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root to prove the form without it")
def test_lab_works_without_root_in_a_user_namespace(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    repository = Path(__file__).parents[2]
    test = f"{__file__}::test_lab_moves_ping_through_esp_and_shows_nothing_in_clear"
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", test]
    command = in_sandbox(pytest_command, own_user_namespace=True)
    done = subprocess.run(
        run_as(NOBODY, command, [Path(sys.base_prefix), Path(sys.prefix), repository]),
        cwd=repository,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if "Operation not permitted" in done.stderr and "unshare" in done.stderr:
        pytest.skip("this kernel refuses user namespaces")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
