"""`tunnel_*`: TCP and UDP through the data process, next to charon with kernel-libipsec and to wireguard-go.

All tunnels stand at the same time, each between two namespaces over a veth pair, with an inner MTU of 1,400 bytes; they are
measured in turns. Both ends and both iperf3 processes share the machine's cores. CPU times are those of the processes
that carry the packets, at both ends. wireguard-go is that of Debian sid (deploy/debian/wireguard-go.sh).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from harness import Bench, Rival, Row, absolute, compared

from warren_ikev2.dataplane import control
from warren_ikev2.dataplane.tun import ip_arguments, link_settings
from warren_lab.charon_conf import charon_settings
from warren_lab.lab import Lab
from warren_lab.namespace import Namespace
from warren_lab.process import wait_until
from warren_testkit.lab.tunnel_bed import INNER, OUTER, TunnelBed, TunnelOptions, make_tunnel
from warren_testkit.lab.vici_control import Vici

ROOT = Path(__file__).resolve().parent.parent
WIREGUARD_GO = ROOT / "build" / "wireguard-go" / "usr" / "bin" / "wireguard-go"
MTU = "1400"
ROUNDS = 5
SECONDS = "1.5"
STRONGSWAN, WIREGUARD = "strongSwan kernel-libipsec", "wireguard-go"


@dataclass(frozen=True)
class Tunnel:
    """Two namespaces with a tunnel between them, and the processes that carry its packets."""

    left: Namespace
    right: Namespace
    processes: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """CPU time of the processes so far, to the nanosecond (proc(5), schedstat)."""
        threads = (task for number in self.processes for task in Path(f"/proc/{number}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9

    def iperf(self, *options: str) -> dict[str, Any]:
        """Run iperf3 once through the tunnel; its JSON."""
        with self._server():
            out = self.left.run(
                "iperf3", "-c", INNER[4][1], "-B", INNER[4][0], "-t", SECONDS, "-J", *options, limit_seconds=30
            )
        result: dict[str, Any] = json.loads(out)
        return result

    @contextlib.contextmanager
    def _server(self) -> Iterator[None]:
        server = self.right.spawn("iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE)
        assert server.stdout is not None
        while b"listening" not in (line := server.stdout.readline()):
            assert line, "iperf3 ended before it listened"
        try:
            yield
        finally:
            server.terminate()
            server.wait(10)
            server.stdout.close()


@contextlib.contextmanager
def _ours(options: TunnelOptions) -> Iterator[tuple[Tunnel, TunnelBed]]:
    with make_tunnel(options) as bed:
        ends = (bed.left, bed.right)
        for end in ends:
            end.namespace.run("ip", "link", "set", end.tun.name, *ip_arguments(link_settings(int(MTU))))
        processes = [end.plane.process_id for end in ends]
        yield Tunnel(bed.left.namespace, bed.right.namespace, tuple(p for p in processes if p is not None)), bed


@contextlib.contextmanager
def _namespaces(prefix: str) -> Iterator[tuple[Lab, list[Namespace]]]:
    with Lab(prefix) as lab:
        spaces = [lab.namespace("left"), lab.namespace("right")]
        lab.link(spaces[0], "wan", f"{OUTER[4][0]}/24", spaces[1], "wan", f"{OUTER[4][1]}/24")
        yield lab, spaces


@contextlib.contextmanager
def _strongswan() -> Iterator[Tunnel]:
    with _namespaces("bs") as (lab, spaces):
        controls, processes = [], []
        for side, space in enumerate(spaces):
            space.add_address("lo", ip_interface(f"{INNER[4][side]}/32"))
            space.add_default_route(OUTER[4][1 - side])
            charon = lab.charon(space, charon_settings())
            charon.start()
            processes.append(charon.process_id)
            control_socket = Vici(charon)
            control_socket.load_shared("bench", "IKE", b"the benchmark's secret", "left", "right")
            ids = ("left", "right") if side == 0 else ("right", "left")
            child = {
                "local_ts": [f"{INNER[4][side]}/32"], "remote_ts": [f"{INNER[4][1 - side]}/32"],
                "esp_proposals": ["aes256gcm16"], "mode": "tunnel",
            }  # fmt: skip
            control_socket.load("bench", {
                "version": "2", "local_addrs": [OUTER[4][side]], "remote_addrs": [OUTER[4][1 - side]],
                "local": {"auth": "psk", "id": ids[0]}, "remote": {"auth": "psk", "id": ids[1]},
                "proposals": ["aes256gcm16-prfsha384-x25519"], "children": {"net": child},
            })  # fmt: skip
            controls.append(control_socket)
        controls[0].initiate("bench")
        for space in spaces:
            space.run("ip", "link", "set", "ipsec0", "mtu", MTU)
        yield Tunnel(spaces[0], spaces[1], tuple(processes))


@contextlib.contextmanager
def _wireguard() -> Iterator[Tunnel]:
    """Configured over its own socket (wireguard.com/xplatform), so that wireguard-tools are not needed."""
    with _namespaces("bw") as (_, spaces), contextlib.ExitStack() as stack:
        keys = [X25519PrivateKey.generate() for _ in spaces]
        processes = []
        for side, space in enumerate(spaces):
            name = f"wgb{side}{os.getpid() % 100000}"
            env = {"PATH": os.environ["PATH"], "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
            child = space.spawn(str(WIREGUARD_GO), "-f", name, env=env)
            processes.append(child.pid)
            path = Path("/var/run/wireguard") / f"{name}.sock"
            stack.callback(path.unlink, missing_ok=True)
            wait_until(path.exists, "wireguard-go's socket", 10.0, child.pid)
            peer = keys[1 - side].public_key().public_bytes_raw().hex()
            _configure(path, [
                "set=1", f"private_key={keys[side].private_bytes_raw().hex()}", "listen_port=51820",
                f"public_key={peer}", f"endpoint={OUTER[4][1 - side]}:51820", f"allowed_ip={INNER[4][1 - side]}/32",
            ])  # fmt: skip
            space.add_address(name, ip_interface(f"{INNER[4][side]}/32"))
            space.run("ip", "link", "set", name, "up", "mtu", MTU)
            space.run("ip", "route", "add", f"{INNER[4][1 - side]}/32", "dev", name, "src", INNER[4][side])
        yield Tunnel(spaces[0], spaces[1], tuple(processes))


def _configure(path: Path, lines: list[str]) -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(path))
        channel.sendall("\n".join([*lines, "", ""]).encode())
        answer = channel.recv(4096)
    assert b"errno=0" in answer, answer


def _gbit(result: dict[str, Any]) -> float:
    """Received, in both directions together."""
    end = result["end"]
    total = end["sum_received"]["bits_per_second"]
    if "sum_received_bidir_reverse" in end:
        total += end["sum_received_bidir_reverse"]["bits_per_second"]
    return float(total) / 1e9


def _tcp(*options: str) -> Callable[[Tunnel], tuple[float, float]]:
    """Gbit/s, and CPU seconds a gigabit."""

    def measure(tunnel: Tunnel) -> tuple[float, float]:
        before = tunnel.cpu_seconds()
        result = tunnel.iperf(*options)
        spent = tunnel.cpu_seconds() - before
        end = result["end"]
        bits = sum(end[name]["bytes"] for name in end if name.startswith("sum_received")) * 8
        return _gbit(result), spent / (bits / 1e9)

    return measure


def _udp(size: int) -> Callable[[Tunnel], tuple[float, float]]:
    """Packets a second that arrive, in thousands, of a sender that offers as many as it can.

    iperf3's socket holds 2 MiB: the 212,992 bytes of the kernel's default are full after 277 small datagrams, and what a burst
    exceeds would be lost after the tunnel.
    """

    def measure(tunnel: Tunnel) -> tuple[float, float]:
        end = tunnel.iperf("-u", "-b", "0", "-w", "2M", "-l", str(size))["end"]["sum"]
        return (end["packets"] - end["lost_packets"]) / end["seconds"] / 1000, 0.0

    return measure


def _ping(tunnel: Tunnel) -> tuple[float, float]:
    """The median round trip in milliseconds next to one TCP stream."""
    ping = tunnel.left.spawn("ping", "-n", "-c", "30", "-i", "0.03", INNER[4][1], stdout=subprocess.PIPE)
    assert ping.stdout is not None
    tunnel.iperf()
    with ping.stdout:
        times = re.findall(rb"time=([0-9.]+)", ping.stdout.read())
    ping.wait(10)
    return statistics.median(map(float, times)), 0.0


Samples = dict[str, list[tuple[float, float]]]


def _in_turns(tunnels: dict[str, Tunnel], measure: Callable[[Tunnel], tuple[float, float]]) -> Samples:
    """One sample of each in each round."""
    found: Samples = {name: [] for name in tunnels}
    for _ in range(ROUNDS):
        for name, tunnel in tunnels.items():
            found[name].append(measure(tunnel))
    return found


def _row(name: str, samples: Samples, ours: str, rival: str, unit: str, target: float | None, column: int = 0) -> Row:
    better: Any = "lower" if unit in ("ms", "CPU s/Gbit") else "higher"
    mine, theirs = ([sample[column] for sample in samples[key]] for key in (ours, rival))
    return compared(name, mine, Rival(rival, theirs), unit, better=better, target=target)


def run() -> Iterable[Row]:
    with contextlib.ExitStack() as stack:
        ours, bed = stack.enter_context(_ours(TunnelOptions()))
        plain, _ = stack.enter_context(_ours(TunnelOptions(vectorised=False)))
        single, _ = stack.enter_context(_ours(TunnelOptions(udp_gso=False)))
        tunnels = {"ours": ours, STRONGSWAN: stack.enter_context(_strongswan())}
        if WIREGUARD_GO.exists():
            tunnels[WIREGUARD] = stack.enter_context(_wireguard())
        yield from _idle(ours)
        one = _in_turns({**tunnels, "plain": plain, "single": single}, _tcp())
        yield _row("tunnel_tcp", one, "ours", STRONGSWAN, "Gbit/s", 3.5)
        yield _row("tunnel_cpu", one, "ours", STRONGSWAN, "CPU s/Gbit", None, 1)
        yield _row("tunnel_tcp_without_numpy", one, "plain", STRONGSWAN, "Gbit/s", 2.0)
        yield _row("tunnel_tcp_without_udp_gso", one, "single", STRONGSWAN, "Gbit/s", 2.0)
        if WIREGUARD in tunnels:
            yield _row("tunnel_tcp_next_to_wireguard", one, "ours", WIREGUARD, "Gbit/s", 1.2)
        pair = {name: tunnels[name] for name in ("ours", STRONGSWAN)}
        for name, options in (("4_streams", ("-P", "4")), ("reverse", ("-R",)), ("bidirectional", ("--bidir",))):
            yield _row(f"tunnel_tcp_{name}", _in_turns(pair, _tcp(*options)), "ours", STRONGSWAN, "Gbit/s", None)
        for size in (64, 200):
            samples = _in_turns(tunnels, _udp(size))
            yield _row(f"tunnel_udp_{size}", samples, "ours", STRONGSWAN, "kpps", None)
            if WIREGUARD in tunnels:
                yield _row(f"tunnel_udp_{size}_next_to_wireguard", samples, "ours", WIREGUARD, "kpps", None)
        yield _row("tunnel_ping_under_load", _in_turns(pair, _ping), "ours", STRONGSWAN, "ms", None)
        yield from _memory(bed)


def _idle(tunnel: Tunnel) -> Iterable[Row]:
    samples = []
    for _ in range(ROUNDS):
        before, since = tunnel.cpu_seconds(), time.monotonic()
        tunnel.left.run("sleep", "1")
        samples.append((tunnel.cpu_seconds() - before) / (time.monotonic() - since) / len(tunnel.processes) * 100)
    yield absolute("tunnel_idle_cpu", samples, "% of a core", better="lower", target=0.5, note="one data process")


def _resident_mb(process_id: int) -> float:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _memory(bed: TunnelBed) -> Iterable[Row]:
    """The data process after all of the above, and with 99 more CHILD_SAs."""
    plane, process_id = bed.left.plane, bed.left.plane.process_id
    assert process_id is not None
    yield absolute("tunnel_memory", [_resident_mb(process_id)], "MB", better="lower", target=None, note="data process")
    (known,) = bed.left.session.children.values()

    async def install() -> None:
        for number in range(1, 100):
            child = replace(known, spi_in=number + 1000, spi_out=number + 1000)
            plane.send(control.InstallChild(child, None))
        plane.send(control.RequestStatistics())

    bed.left.loop.run(install())
    wait_until(lambda: len(plane.children) >= 100, "the statistics of 100 CHILD_SAs", 20.0, process_id)
    note = "data process, 100 CHILD_SAs"
    yield absolute("tunnel_memory_100", [_resident_mb(process_id)], "MB", better="lower", target=None, note=note)


NAMES = (
    "tunnel_tcp", "tunnel_cpu", "tunnel_tcp_without_numpy", "tunnel_tcp_without_udp_gso",
    "tunnel_tcp_next_to_wireguard", "tunnel_tcp_4_streams", "tunnel_tcp_reverse", "tunnel_tcp_bidirectional",
    "tunnel_udp_64", "tunnel_udp_64_next_to_wireguard", "tunnel_udp_200", "tunnel_udp_200_next_to_wireguard",
    "tunnel_ping_under_load", "tunnel_idle_cpu", "tunnel_memory", "tunnel_memory_100",
)  # fmt: skip
BENCHES = [Bench(NAMES, run, "TCP and UDP through the data process")]
