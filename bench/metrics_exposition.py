"""`metrics_exposition_100000`: what a scrape of 100,000 tunnels costs the metrics service, every counter of which has changed.

The tunnels are reported by 10,000 peers, through the service's own parser into its own state, in a process of its own: its
resident memory is that of the state and of the exposition. The rival is prometheus_client's own registry with as many labelled
gauges and counters, which a service would use as a matter of course; it is measured with a tenth of the tunnels, since its cost
grows with them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from harness import MIN_RUNS, Bench, Rival, Row, absolute, alternate, compared

TUNNELS_OF_PEER = 10
START = datetime(2026, 1, 1, tzinfo=UTC)
FAMILIES = 15  # of a tunnel


def _report(peer: str, round_: int) -> bytes:
    from warren_contracts.telemetry import Report

    at = START + timedelta(seconds=10 * round_)
    traffic = {
        "bytes_in": 10_000 * round_,
        "bytes_out": 20_000 * round_,
        "packets_in": 10 * round_,
        "packets_out": 20 * round_,
    }
    sa = {
        "child": "net", "spi_in": "c0ffee01", "spi_out": "c0ffee02", "cipher": "aes256gcm16", "established_at": START,
        "rekey_in": 3_000, "expires_in": 3_600, "local_ts": ["10.1.0.0/16"], "remote_ts": ["10.2.0.0/16"], "traffic": traffic,
    }  # fmt: skip
    link = {
        "ike_cipher": "aes256gcm16-prfsha384-ecp384", "ike_established_at": START, "local_address": "192.0.2.1",
        "remote_address": "198.51.100.1", "children": [sa],
    }  # fmt: skip
    tunnels = [
        {
            "name": f"{peer}+hub-{n}", "peer": f"hub-{n}", "policy": "branches", "state": "up", "initiator": True, "link": link,
            "traffic": traffic, "rekeys": round_ // 4, "since": START, "evidence": {"kind": "traffic", "at": at},
        }
        for n in range(TUNNELS_OF_PEER)
    ]  # fmt: skip
    return Report.model_validate({"at": at, "tunnels": tunnels}).model_dump_json().encode()


async def _scrapes(peers: int, rounds: int) -> dict[str, object]:
    """In a process of its own: CPU seconds, longest delay of the event loop, memory and body, once per round."""
    import psutil
    from prometheus_client import CollectorRegistry

    from warren_metrics.adapters.gzip_parts import assemble
    from warren_metrics.adapters.prometheus import FleetScraper
    from warren_metrics.domain.fleet import FleetTelemetry
    from warren_metrics.domain.parse import MessageSource, parse
    from warren_service.collector import spare_the_collector

    spare_the_collector()
    fleet = FleetTelemetry()
    now = START
    scraper = FleetScraper(fleet, CollectorRegistry(), lambda: now)
    cpu: list[float] = []
    delays: list[float] = []
    body = b""
    plain = 0
    for round_ in range(1, rounds + 2):
        now = START + timedelta(seconds=10 * round_)
        for number in range(peers):
            peer = f"branch-{number}"
            place = MessageSource(round_ * peers + number, now)
            fleet.observe(parse(f"warren.v1.telemetry.{peer}.report", _report(peer, round_), place))
        watch = asyncio.create_task(_longest_delay())
        await asyncio.sleep(0)
        before = time.process_time()
        _, parts = await scraper.scrape("")
        body = await asyncio.to_thread(assemble, parts)
        taken = time.process_time() - before
        watch.cancel()
        plain = sum(part.size for part in parts)
        if round_ > 1:  # the first scrape renders everything
            cpu.append(taken)
            delays.append(await watch)
    memory = psutil.Process().memory_info()
    peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1_024  # noqa: SIM115, ASYNC230
    return {"cpu": cpu, "delays": delays, "rss": memory.rss, "peak": peak, "body": len(body), "plain": plain}


async def _longest_delay() -> float:
    longest, last = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        return longest


def _measured(peers: int, rounds: int) -> dict[str, object]:
    script = f"import asyncio, json; from metrics_exposition import _scrapes; print(json.dumps(asyncio.run(_scrapes({peers}, {rounds}))))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=__file__.rpartition("/")[0], check=True, capture_output=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


class _Rival:
    """prometheus_client's registry with as many series, and their changes."""

    def __init__(self, tunnels: int) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        kinds = [Gauge] * 9 + [Counter] * 6
        self._metrics = [
            kind(f"warren_bench_{n}", "A metric.", ["tunnel", "peer"], registry=self.registry)
            for n, kind in enumerate(kinds)
        ]
        self._labels = [(f"branch-{n // 10}+hub-{n % 10}", f"branch-{n // 10}") for n in range(tunnels)]

    def scrape(self) -> float:
        """CPU seconds of setting the counters and rendering everything, compressed."""
        import gzip

        from prometheus_client import Counter, generate_latest

        before = time.process_time()
        for metric in self._metrics:
            for labels in self._labels:
                child = metric.labels(*labels)
                if isinstance(child, Counter):
                    child.inc(10_000)
        gzip.compress(generate_latest(self.registry), 1)
        return time.process_time() - before


def run() -> Iterable[Row]:
    found = _measured(10_000, MIN_RUNS)
    cpu, delays = found["cpu"], found["delays"]
    assert isinstance(cpu, list)
    assert isinstance(delays, list)
    size = f"{_mb(found['body'])} MB compressed, {_mb(found['plain'])} MB of text"
    yield absolute(
        "metrics_exposition_100000",
        cpu,
        "s",
        better="lower",
        target=2.0,
        note=f"CPU of a scrape in which every counter changed; {size}",
    )
    yield absolute(
        "metrics_exposition_100000_delay",
        [1_000 * it for it in delays],
        "ms",
        better="lower",
        target=None,
        note="longest delay of the event loop meanwhile",
    )
    yield absolute(
        "metrics_exposition_100000_memory",
        [_mb(found["peak"])],
        "MB",
        better="lower",
        target=500.0,
        note="peak resident memory of state and exposition",
    )
    rival = _Rival(10_000)
    rival.scrape()
    ours: list[float] = []

    def next_of_ours() -> float:
        if not ours:
            measured = _measured(1_000, MIN_RUNS)["cpu"]
            assert isinstance(measured, list)
            ours.extend(measured)
        return ours.pop()

    own, theirs = alternate(MIN_RUNS, next_of_ours, rival.scrape)
    yield compared(
        "metrics_exposition_10000", own, Rival("prometheus_client's registry", theirs), "s", better="lower", target=None,
        note="CPU of a scrape of 10,000 tunnels, compressed, every counter changed",
    )  # fmt: skip


def _mb(size: object) -> float:
    assert isinstance(size, int)
    return round(size / 1e6, 1)


BENCHES = [
    Bench(
        (
            "metrics_exposition_100000",
            "metrics_exposition_100000_delay",
            "metrics_exposition_100000_memory",
            "metrics_exposition_10000",
        ),
        run,
    )
]
