"""`guard_*`: what leak protection costs. The time from a request with 1,000 tunnels to the reply that their table is in the kernel,
next to nft(8) alone with the same table; what the table costs a forwarded packet, with and without in turns; the guard's memory,
and how long packets without an SA may pass after another program's `flush ruleset`.

Packets are forwarded between two hosts by a gateway: untouched ones, and ones of a tunnel's networks, which leave by the device
that carries tunnels (a veth here). No daemon takes part, so the figure is the cost of the guard's rules and of the connection
tracking that they need, on top of bare forwarding. What is timed is the processor time of sending: veth forwards within the
sender's call, and what else the machine does does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_interface
from pathlib import Path

from harness import Bench, Rival, Row, absolute, compared

from warren_agent.adapters.guard import GuardClient
from warren_contracts.guard import ProtectRequest
from warren_contracts.protection import ProtectedTraffic
from warren_lab.capture import Capture
from warren_lab.lab import Lab
from warren_lab.namespace import Namespace, in_netns
from warren_lab.ping import Ping
from warren_testkit.agent.guard import GuardProcess
from warren_testkit.lab.gateways import Gateway

TUNNELS = 1_000
REQUESTS = 30
PAIRS = 200
PACKETS = 1_000  # of a measurement: 2 to 5 ms
PAYLOAD_BYTES = 1_372  # 1,400 with IP and UDP
SETTLED_S = 0.05  # the guard has listed its new table
TABLE_TARGET_MS = 100.0
COST_TARGET_US = (
    1.0  # 3 % of a 1,400-byte packet at 340 Mbit/s, which is what a charon with kernel-libipsec carries here
)
PROTECTED, UNTOUCHED = "10.2.0.1", "10.99.0.1"


def traffic(network: str, peer_network: str) -> tuple[ProtectedTraffic, ...]:
    """The tunnel between two networks, and 999 others, no two of them with adjacent networks."""
    networks = [peer_network, *(f"10.{100 + n // 125}.{2 * (n % 125)}.0/24" for n in range(TUNNELS - 1))]
    return tuple(
        ProtectedTraffic.model_validate(
            {"policy": "bench", "tunnel": f"t{number}", "pairs": [{"local": [network], "remote": [remote]}]}
        )
        for number, remote in enumerate(networks)
    )


class Road:
    """A client behind a gateway, and a server that the gateway reaches by a plain link and by one that carries tunnels."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.client, self.gate, self.server = (lab.namespace(f"{name}{it}") for it in ("client", "gate", "server"))
        lab.link(self.client, "lan", "10.1.0.9/24", self.gate, "lan", "10.1.0.1/24")
        lab.link(self.gate, "wan", "192.0.2.1/24", self.server, "wan", "192.0.2.2/24")
        lab.link(self.gate, "ipsec0", "192.0.3.1/24", self.server, "tunnels", "192.0.3.2/24")
        for address in (PROTECTED, UNTOUCHED):
            self.server.add_address("lo", ip_interface(f"{address}/24"))
        self.gate.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.server.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
        self.client.run("ip", "route", "add", "default", "via", "10.1.0.1")
        self.server.run("ip", "route", "add", "10.1.0.0/24", "via", "192.0.2.1")
        self.gate.run("ip", "route", "add", "10.2.0.0/24", "via", "192.0.3.2")
        self.gate.run("ip", "route", "add", "10.99.0.0/24", "via", "192.0.2.2")
        self._sender, self._sink = _socket(self.client), _socket(self.server)
        self._sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)  # it is never read
        self._sink.bind(("", 9))

    def microseconds(self, target: str) -> float:
        """Of one packet to the target, on the way to it."""
        data, to, send = bytes(PAYLOAD_BYTES), (target, 9), self._sender.sendto
        begun = time.thread_time()
        for _ in range(PACKETS):
            send(data, to)
        return (time.thread_time() - begun) / PACKETS * 1e6

    def received(self) -> int:
        """Packets that have arrived at the server."""
        listed = json.loads(self.server.run("ip", "-json", "-stats", "link", "show"))
        return sum(int(it["stats64"]["rx"]["packets"]) for it in listed if it["ifname"] in ("wan", "tunnels"))

    def close(self) -> None:
        """Close its sockets."""
        self._sender.close()
        self._sink.close()


def _socket(namespace: Namespace) -> socket.socket:
    return in_netns(namespace.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


@dataclass
class Measured:
    """Microseconds of a packet by its target, with the table and without it; milliseconds of a request, and of nft(8) alone."""

    guarded: dict[str, list[float]] = field(default_factory=lambda: {PROTECTED: [], UNTOUCHED: []})
    plain: dict[str, list[float]] = field(default_factory=lambda: {PROTECTED: [], UNTOUCHED: []})
    requests: list[float] = field(default_factory=list)
    nft: list[float] = field(default_factory=list)


async def _measured() -> Measured:
    found = Measured()
    with Lab("wb") as lab:
        guarded, plain, elsewhere = Road(lab, "guarded-"), Road(lab, "plain-"), lab.namespace("nft")
        guard = GuardProcess(guarded.gate, lab.folder / "gate")
        await guard.start()
        client = GuardClient(guard.socket, lambda: 0.0)
        request = ProtectRequest(traffic=traffic("10.1.0.0/24", "10.2.0.0/24"), devices=("ipsec0",))
        for _ in range(REQUESTS):
            assert (await client.ask(ProtectRequest())).held == ()
            await asyncio.sleep(SETTLED_S)
            begun = time.perf_counter()
            reply = await client.ask(request)
            found.requests.append((time.perf_counter() - begun) * 1_000)
            assert reply.changed
            assert len(reply.held) == TUNNELS
            await asyncio.sleep(SETTLED_S)
            begun = time.perf_counter()
            elsewhere.run("nft", "-f", str(guard.folder / "state" / "table.nft"))
            found.nft.append((time.perf_counter() - begun) * 1_000)
        _send(guarded, plain, found)
        await guard.stop()
        guarded.close()
        plain.close()
    return found


def _send(guarded: Road, plain: Road, found: Measured) -> None:
    """Both ways in turns, some ms each."""
    before = guarded.received(), plain.received()
    for number in range(PAIRS):
        turns = [(guarded, found.guarded), (plain, found.plain)]
        for road, into in turns if number % 2 else reversed(turns):
            for target in (PROTECTED, UNTOUCHED):
                into[target].append(road.microseconds(target))
    sent = 2 * PAIRS * PACKETS
    for road, at_first in zip((guarded, plain), before, strict=True):
        lost = sent - (road.received() - at_first)
        assert lost <= sent // 1_000, f"{lost} of {sent} packets were not forwarded"


def run() -> Iterable[Row]:
    """The rows of the table and of packets."""
    found = asyncio.run(_measured())
    yield from _packet_rows("guard_throughput", "guard_packet_cost", found, PROTECTED, "packets of a tunnel")
    yield from _packet_rows("guard_untouched", "guard_untouched_cost", found, UNTOUCHED, "packets of no tunnel")
    yield absolute(
        f"guard_table_{TUNNELS}", found.requests, "ms", better="lower", target=TABLE_TARGET_MS,
        note="from the request to the reply: in the kernel and on disk",
    )  # fmt: skip
    yield absolute(
        "guard_table_nft", found.nft, "ms", better="lower", target=None, note="nft(8) alone with the same table, same run",
    )  # fmt: skip


def _packet_rows(rate: str, cost: str, found: Measured, target: str, what: str) -> Iterator[Row]:
    guarded, plain = found.guarded[target], found.plain[target]
    ratios = [without / with_ for with_, without in zip(guarded, plain, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    yield compared(
        rate, [1e3 / it for it in guarded], Rival("without a guard", [1e3 / it for it in plain]), "kpackets/s",
        better="higher", target=None,
        note=f"{what}, bare forwarding, {TUNNELS:,} tunnels; ratio of pairs: median {middle:.3f}, quartiles {low:.3f} and {high:.3f}",
    )  # fmt: skip
    added = [with_ - without for with_, without in zip(guarded, plain, strict=True)]
    yield absolute(
        cost, added, "us", better="lower", target=COST_TARGET_US, note=f"added to each of the {what}; median of {PAIRS} pairs",
    )  # fmt: skip


@contextlib.contextmanager
def pair() -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways on one link."""
    with Lab("wb") as lab:
        hub, spoke = Gateway(lab, "hub", 1), Gateway(lab, "spoke", 2)
        lab.link(hub.namespace, "wan", f"{hub.address}/24", spoke.namespace, "wan", f"{spoke.address}/24")
        yield hub, spoke


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
        request = ProtectRequest(traffic=traffic(spoke.network, hub.network)[:FEW_TUNNELS])
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
    Bench(
        (
            "guard_throughput",
            "guard_packet_cost",
            "guard_untouched",
            "guard_untouched_cost",
            f"guard_table_{TUNNELS}",
            "guard_table_nft",
        ),
        run,
    ),
    Bench(("guard_flush_gap", f"guard_resident_{FEW_TUNNELS}"), run_flushes),
]
