"""`guard_*`: what leak protection costs. Throughput of a tunnel with and without the guard's table in one run, the time from a
request with 1,000 tunnels to the reply that their table is in the kernel, the guard's memory, and how long packets without an SA
may pass after another program's `flush ruleset`.

The tunnel is charon's with kernel-libipsec between two namespaces; both ends and both iperf3 processes share the machine's
cores. With the guard, both ends have a table of 1,000 tunnels, of which one is the tunnel that is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

from harness import Bench, Row, absolute, compared

from warren_agent.adapters.guard import GuardClient
from warren_contracts.guard import ProtectRequest
from warren_contracts.protection import ProtectedTraffic
from warren_lab.capture import Capture
from warren_lab.lab import Lab
from warren_lab.ping import Ping
from warren_testkit.agent.guard import GuardProcess
from warren_testkit.lab.gateways import Gateway, Watched

TUNNELS = 1_000
ROUNDS = 5
SECONDS = "1.5"
MTU = "1400"
TABLE_TARGET_MS = 100.0
RATIO_TARGET = 0.97  # of two equal tunnels, one may be 3 % slower in a run


def traffic(gateway: Gateway, peer: Gateway, shift: int = 0) -> tuple[ProtectedTraffic, ...]:
    """The tunnel to `peer`, and 999 others, no two of them with adjacent networks."""
    networks = [peer.network, *(f"10.{100 + n // 125}.{2 * (n % 125) + shift}.0/24" for n in range(TUNNELS - 1))]
    return tuple(
        ProtectedTraffic.model_validate(
            {
                "policy": "bench",
                "tunnel": f"t{number}",
                "pairs": [{"local": [gateway.network], "remote": [network]}],
            }
        )
        for number, network in enumerate(networks)
    )


@contextlib.contextmanager
def pair() -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways on one link."""
    with Lab("wb") as lab:
        hub, spoke = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2)
        lab.link(hub.namespace, "wan", f"{hub.address}/24", spoke.namespace, "wan", f"{spoke.address}/24")
        yield hub, spoke


async def _measured() -> tuple[list[float], list[float], list[float]]:
    """Mbit/s with and without the table, and milliseconds of a request that changes it."""
    with pair() as gateways:
        hub, spoke = gateways
        guards = [GuardProcess(it.namespace, it.folder) for it in gateways]
        ends = [Watched(it) for it in gateways]
        await asyncio.gather(*(it.start() for it in gateways))
        await asyncio.gather(*(it.start() for it in guards))
        await asyncio.gather(*(it.start() for it in ends))
        await ends[0].driver.create_tunnel(ends[0].tunnel(ends[1], False))
        await ends[1].driver.create_tunnel(ends[1].tunnel(ends[0], True))
        await ends[1].driver.start_tunnel("hub+spoke")
        await asyncio.gather(*(it.converged() for it in ends))
        for gateway in gateways:  # ESP in UDP over the link's 1,500 bytes
            gateway.namespace.run("ip", "link", "set", "ipsec0", "mtu", MTU)
        with_guard, without, times = [], [], []
        for number in range(ROUNDS):
            for guard, own, peer in zip(guards, gateways, (spoke, hub), strict=True):
                request = ProtectRequest(traffic=traffic(own, peer, number % 2), devices=("ipsec0",))
                begun = time.perf_counter()
                reply = await GuardClient(guard.socket, lambda: 0.0).ask(request)
                times.append((time.perf_counter() - begun) * 1_000)
                assert reply.changed
                assert len(reply.held) == TUNNELS
            with_guard.append(await asyncio.to_thread(throughput, hub, spoke))
            for guard in guards:
                assert (await GuardClient(guard.socket, lambda: 0.0).ask(ProtectRequest())).held == ()
            without.append(await asyncio.to_thread(throughput, hub, spoke))
        await asyncio.gather(*(it.stop() for it in ends))
        await asyncio.gather(*(it.stop() for it in guards))
        await asyncio.gather(*(it.stop() for it in gateways))
        return with_guard, without, times


def throughput(server: Gateway, client: Gateway) -> float:
    """Mbit/s of one TCP stream from the client to the server, through the tunnel."""
    listening = server.namespace.spawn("iperf3", "-s", "-1", "-B", server.protected)
    try:
        for _ in range(50):
            out = client.namespace.run(
                "iperf3",
                "-c",
                server.protected,
                "-B",
                client.protected,
                "-t",
                SECONDS,
                "-J",
                check=False,
                limit_seconds=30,
            )
            result = json.loads(out)
            if "error" not in result:  # the server listens a moment after its start
                return float(result["end"]["sum_received"]["bits_per_second"]) / 1e6
        raise RuntimeError(f"iperf3: {result['error']}")
    finally:
        listening.terminate()
        listening.wait(10)


def run() -> Iterable[Row]:
    """Both rows."""
    with_guard, without, times = asyncio.run(_measured())
    yield compared(
        "guard_throughput", with_guard, without, "Mbit/s", rival_name="without a guard", better="higher",
        target=RATIO_TARGET, note=f"a table of {TUNNELS:,} tunnels at both ends",
    )  # fmt: skip
    yield absolute(
        f"guard_table_{TUNNELS}", times, "ms", better="lower", target=TABLE_TARGET_MS,
        note="from the request to the reply: in the kernel and on disk",
    )  # fmt: skip


FLUSHES = 15
FRAME_INTERVAL_S = 0.001
MEMORY_TARGET_MB = 35.0
FEW_TUNNELS = 100


def _resident_mb(process: int) -> float:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4_096 / 1e6


async def _flushed() -> tuple[list[float], float]:
    """Milliseconds in which frames passed in clear after each flush, and the guard's megabytes with 100 tunnels."""
    with pair() as (hub, spoke):
        guard = GuardProcess(spoke.namespace, spoke.folder)
        await guard.start()
        spoke.namespace.run("ip", "route", "replace", hub.network, "via", hub.address, "dev", "wan")
        request = ProtectRequest(traffic=traffic(spoke, hub)[:FEW_TUNNELS])
        assert (await GuardClient(guard.socket, lambda: 0.0).ask(request)).changed
        table = guard.table()
        resident = _resident_mb(guard.pid)
        source, target = IPv4Address(spoke.protected), IPv4Address(hub.protected)
        gaps = []
        capture = Capture(spoke.namespace, "wan", frozenset({source, target}))
        with capture, Ping(spoke.namespace, source, target, FRAME_INTERVAL_S):
            for _ in range(FLUSHES):
                before = sum(it.source == source for it in capture.clear_packets())
                spoke.namespace.run("nft", "flush", "ruleset")
                await guard.has_table(table)
                await asyncio.sleep(0.2)  # what was sent before is captured
                after = sum(it.source == source for it in capture.clear_packets())
                gaps.append((after - before) * FRAME_INTERVAL_S * 1_000)
        await guard.stop()
        return gaps, resident


def run_flushes() -> Iterable[Row]:
    """How long the guard needs to re-create its table, and its memory."""
    gaps, resident = asyncio.run(_flushed())
    yield absolute(
        "guard_flush_gap", gaps, "ms", better="lower", target=None,
        note=f"frames in clear, one a millisecond, after `nft flush ruleset`; {FEW_TUNNELS} tunnels, no SA",
    )  # fmt: skip
    yield absolute(
        f"guard_resident_{FEW_TUNNELS}", [resident], "MB", better="lower", target=MEMORY_TARGET_MB,
        note=f"resident, {FEW_TUNNELS} tunnels",
    )  # fmt: skip


BENCHES = [
    Bench(("guard_throughput", f"guard_table_{TUNNELS}"), run),
    Bench(("guard_flush_gap", f"guard_resident_{FEW_TUNNELS}"), run_flushes),
]
