"""`metrics_ingest`: 1,000 reports a second, ten tunnels each, into the metrics service on one core.

The real service, pinned to one core, with a real nats-server and PostgreSQL on the others; every peer reports every ten seconds,
and every counter of its tunnels has changed. Reported is how many seconds the service is behind the bus, at the median of the last
half of the run: it does not grow if it is small there. WARREN_BENCH_SECONDS=600 measures for ten minutes, 30 s otherwise.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
from harness import Bench, Row, absolute

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_contracts import cloudevents, subjects
from warren_testkit.bus import GrantingCallout, RealServer, free_port
from warren_testkit.bus.streams import kept_streams
from warren_testkit.postgres import PostgresServer, postgres_server

REPORTS_PER_SECOND = 1_000
PEERS = 10_000
SECONDS = float(os.environ.get("WARREN_BENCH_SECONDS", "30"))
BATCH_S = 0.05
MAX_BEHIND_S = 5.0
CORE = 0
PATTERN = re.compile(
    r"^(warren_telemetry_delay_seconds|warren_consumer_pending_messages\{[^}]*TELEMETRY[^}]*\}) (\S+)$", re.M
)


def _payload(peer: str, template: bytes, round_: int) -> bytes:
    """A report of a peer: the template with its name, and counters that have grown."""
    at = datetime.now(UTC).isoformat().encode()
    return (
        template.replace(b"@peer@", peer.encode())
        .replace(b"111111", str(100_000 + round_).encode())
        .replace(b"@at@", at)
    )


def _template() -> bytes:
    from warren_contracts.telemetry import Report

    start = datetime(2026, 1, 1, tzinfo=UTC)
    traffic = {"bytes_in": 111_111, "bytes_out": 111_111, "packets_in": 111_111, "packets_out": 111_111}
    sa = {
        "child": "net", "spi_in": "c0ffee01", "spi_out": "c0ffee02", "cipher": "aes256gcm16", "established_at": start,
        "rekey_in": 3_000, "expires_in": 3_600, "local_ts": ["10.1.0.0/16"], "remote_ts": ["10.2.0.0/16"], "traffic": traffic,
    }  # fmt: skip
    link = {"ike_cipher": "aes256gcm16-prfsha384-ecp384", "ike_established_at": start, "children": [sa]}
    tunnels = [
        {"name": f"peer-name+hub-{n}", "state": "up", "link": link, "traffic": traffic, "since": start}
        for n in range(10)
    ]
    text = Report.model_validate({"at": start, "tunnels": tunnels}).model_dump_json()
    return text.replace("peer-name", "@peer@").replace('"at":"2026-01-01T00:00:00Z"', '"at":"@at@"', 1).encode()


async def _publish(agent: Connection, until: float) -> int:
    """The load of all peers through one connection that may publish for each of them; returns the messages."""
    client = await agent.wait_connected()
    template, sent = _template(), 0
    began = time.perf_counter()
    while (now := time.perf_counter()) < until:
        due = int((now - began) * REPORTS_PER_SECOND)
        while sent < due:
            peer = f"branch-{sent % PEERS}"
            subject = subjects.telemetry(peer, "report")
            headers = {
                "ce-id": f"{sent}",
                "ce-type": cloudevents.TELEMETRY_TYPES["report"],
                "ce-source": f"/peers/{peer}",
            }
            await client.publish(subject, _payload(peer, template, sent // PEERS), headers=headers)
            sent += 1
        await client.flush(30)
        await asyncio.sleep(BATCH_S)
    return sent


async def _behind(port: int) -> tuple[float, float]:
    """The delay in seconds, and the messages that wait."""

    def read() -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own address
            return str(answer.read().decode())

    found = dict(PATTERN.findall(await asyncio.to_thread(read)))
    pending = next((float(value) for name, value in found.items() if "pending" in name), 0.0)
    return float(found.get("warren_telemetry_delay_seconds", "inf")), pending


async def _measure(folder: Path, database: PostgresServer) -> tuple[list[float], float, float, int]:
    async with AsyncExitStack() as exits:
        bus = await exits.enter_async_context(RealServer(folder))
        await exits.enter_async_context(kept_streams(bus))
        callout = await exits.enter_async_context(GrantingCallout(bus))
        port = free_port()
        public = (folder / "keys" / "public.json").read_text()
        policy_key = re.search(r'"policy-signing"\s*:\s*"([^"]+)"', public)
        assert policy_key is not None
        environment = {
            **os.environ, "WARREN_NATS_URL": bus.url, "WARREN_NKEY_FILE": str(folder / "keys" / "metrics.seed"),
            "WARREN_POSTGRES_DSN": database.dsn(), "WARREN_POLICY_PUBLIC_KEY": policy_key[1], "WARREN_METRICS_PORT": str(port),
        }  # fmt: skip
        with (folder / "metrics.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "warren_metrics", env=environment, stdout=log, stderr=log
            )
        exits.push_async_callback(process.wait)
        exits.callback(process.terminate)
        service = psutil.Process(process.pid)
        service.cpu_affinity([CORE])
        settings, nkey = bus.new_agent("bench")
        callout.enrol(nkey, "*", ())  # may publish the telemetry of every peer
        agent = await exits.enter_async_context(Connection(settings, name="bench", inbox_prefix=inbox("bench")))
        await _ready(port)
        publishing = asyncio.create_task(_publish(agent, time.perf_counter() + SECONDS))
        delays: list[float] = []
        halfway, used = time.perf_counter() + SECONDS / 2, _cpu_seconds(service)
        while not publishing.done():
            await asyncio.wait({publishing}, timeout=2.0)
            delay, pending = await _behind(port)
            if time.perf_counter() >= halfway:
                delays.append(delay)
        cpu = 100 * (_cpu_seconds(service) - used) / SECONDS
        return delays, cpu, pending, await publishing


async def _ready(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError):
                await _behind(port)
                return
            await asyncio.sleep(0.2)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run() -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as folder, postgres_server() as database:
        delays, cpu, pending, sent = asyncio.run(_measure(Path(folder), database))
    note = f"{sent} reports in {SECONDS:.0f} s, {cpu:.0f} % of one core, {pending:.0f} messages wait at the end"
    yield absolute("metrics_ingest", [statistics.median(delays)], "s", better="lower", target=MAX_BEHIND_S, note=note)


BENCHES = [Bench(("metrics_ingest",), run)]
