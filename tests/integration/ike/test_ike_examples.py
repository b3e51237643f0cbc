"""The examples run as docs/ikev2.md describes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from warren_testkit.lab.ike_bed import LIMIT_SECONDS, Bed

EXAMPLES = Path(__file__).parents[3] / "examples" / "ikev2"
VIRTUAL = "10.91.7.1"
ENVIRONMENT = os.environ | {"IKE_SECRET": "only for this test"}


class EchoServer:
    """The example server on any free ports; `out` is what it printed, once it has ended."""

    def __enter__(self) -> "EchoServer":
        self._process = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "echo_server.py"), "--ike-port", "0", "--natt-port", "0"],
            env=ENVIRONMENT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        self.ports = [words[index].rpartition(":")[2] for index in (2, 4)]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self.out = self._process.communicate(timeout=LIMIT_SECONDS)[0]

    def run_client(self, secret: str) -> subprocess.CompletedProcess[str]:
        options = ["127.0.0.1", "--ike-port", self.ports[0], "--natt-port", self.ports[1]]
        return subprocess.run(
            [sys.executable, str(EXAMPLES / "client.py"), *options],
            env=ENVIRONMENT | {"IKE_SECRET": secret}, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip


def test_client_and_echo_server() -> None:
    with EchoServer() as server:
        client = server.run_client(ENVIRONMENT["IKE_SECRET"])
    assert client.stdout.splitlines()[0].startswith("connected: aes256gcm16-prfsha384-x25519, tunnel MTU 1438")
    assert client.stdout.splitlines()[1:6] == ["packet 0", "packet 1", "rekeyed", "packet 2", "packet 3"]
    assert "esp_packets_decrypted 4" in server.out
    assert "ike_sa_rekeyed 1" in server.out
    assert ENVIRONMENT["IKE_SECRET"] not in client.stdout + client.stderr + server.out


def test_a_wrong_secret_exits_with_its_error_code() -> None:
    with EchoServer() as server:
        client = server.run_client("another")
    assert client.returncode == 1
    assert "\nAUTHENTICATION_FAILED: " in client.stderr
    assert "ike_handshake_failures 1" in server.out


@pytest.fixture
def gateway(bed: Bed) -> Iterator[str]:
    """charon as the gateway of a network, with a pool of virtual addresses; yields the name of its connection."""
    with bed.vici.session() as session:
        session.load_pool({"roaming": {"addrs": f"{VIRTUAL}/32"}})
    child = {"remote_ts": ["dynamic"]}
    with bed.connection("road", pools=["roaming"], child=child) as name:
        yield name
    with bed.vici.session() as session:
        session.unload_pool({"name": "roaming"})


@pytest.mark.root
@pytest.mark.interop
def test_tun_gateway(bed: Bed, gateway: str) -> None:
    """Between two namespaces: a virtual address, a device with its route, pings; the gateway deletes the IKE_SA."""
    client = bed.ours.spawn(
        sys.executable, str(EXAMPLES / "tun_gateway.py"), bed.peers,
        "--local-id", bed.our_id, "--remote-id", bed.peer_id, "--network", f"{bed.peer_inner}/32",
        env=ENVIRONMENT | {"IKE_SECRET": bed.secret.decode()}, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert client.stdout is not None
    try:
        line = client.stdout.readline().decode()
        assert line.startswith(f"{bed.peer_inner}/32 by ike"), line + client.stdout.read().decode()
        assert line.endswith(f" from {VIRTUAL}\n")
        device = line.split()[2]
        (child,) = bed.vici.children(gateway)
        assert child["remote-ts"] == [f"{VIRTUAL}/32"]
        bed.ping(source=VIRTUAL)
        assert device in bed.ours.run("ip", "route", "get", bed.peer_inner)
        bed.vici.terminate(gateway)
        out, _ = client.communicate(timeout=LIMIT_SECONDS)
    finally:
        client.kill()
        client.wait(LIMIT_SECONDS)
    assert client.returncode == 0, out
    assert device not in bed.ours.run("ip", "-brief", "link")
    assert bed.secret not in line.encode() + out
