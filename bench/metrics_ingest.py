"""`metrics_ingest`: 1,000 reports a second, ten tunnels each, into the metrics service on one core.

The real service, pinned to one core, with a real nats-server and PostgreSQL on the others; every peer reports every ten seconds,
and every counter of its tunnels has changed. Reported is how many seconds the service is behind the bus, at the median of the last
half of the run: it does not grow if it is small there. WARREN_BENCH_SECONDS=600 measures for ten minutes, 30 s otherwise.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil
from harness import Bench, Row, absolute
from nats.errors import Error

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_contracts import cloudevents, subjects
from warren_metrics.handlers import CONSUMER
from warren_service.permissions import Permissions
from warren_testkit.bus import GrantingCallout, RealServer, free_port
from warren_testkit.bus.streams import kept_streams
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_testkit.waiting import eventually
from warren_trust.jwt import Claims

REPORTS_PER_SECOND = 1_000
PEERS = 10_000
SECONDS = float(os.environ.get("WARREN_BENCH_SECONDS", "30"))
BATCH_S = 0.05
MAX_BEHIND_S = 5.0
WARM_UP_S = 300.0
CORE = 0


def _payload(number: int, template: bytes, round_: int) -> bytes:
    """A report of a peer: the template with its name and its network, and counters that have grown."""
    return (
        template.replace(b"@peer@", f"branch-{number}".encode())
        .replace(b"10.1.0.0/16", f"10.{number >> 8}.{number & 255}.0/24".encode())
        .replace(b"111111", str(100_000 + round_).encode())
        .replace(b"@at@", datetime.now(UTC).isoformat().encode())
    )


def _template() -> bytes:
    from warren_contracts.telemetry import Report

    start = datetime(2026, 1, 1, tzinfo=UTC)
    traffic = {"bytes_in": 111_111, "bytes_out": 111_111, "packets_in": 111_111, "packets_out": 111_111}
    sa = {
        "child": "net", "spi_in": "c0ffee01", "spi_out": "c0ffee02", "cipher": "aes256gcm16", "established_at": start,
        "rekey_in": 3_000, "expires_in": 3_600, "local_ts": ["10.1.0.0/16"], "traffic": traffic,
    }  # fmt: skip
    link = {"ike_cipher": "aes256gcm16-prfsha384-ecp384", "ike_established_at": start}
    links = [{**link, "children": [{**sa, "remote_ts": [f"172.16.{n}.0/24"]}]} for n in range(10)]
    tunnels = [
        {"name": f"peer-name+hub-{n}", "state": "up", "link": links[n], "traffic": traffic, "since": start}
        for n in range(10)
    ]
    text = Report.model_validate({"at": start, "tunnels": tunnels}).model_dump_json()
    return text.replace("peer-name", "@peer@").replace('"at":"2026-01-01T00:00:00Z"', '"at":"@at@"', 1).encode()


async def _publish(agent: Connection, first: int, count: int) -> None:
    """The load of all peers through one connection that may publish for each of them, at REPORTS_PER_SECOND."""
    client = await agent.wait_connected()
    template, sent = _template(), first
    began = time.perf_counter()
    while sent < first + count:
        due = min(first + count, first + int((time.perf_counter() - began) * REPORTS_PER_SECOND))
        while sent < due:
            peer = f"branch-{sent % PEERS}"
            subject = subjects.telemetry(peer, "report")
            headers = {
                "ce-id": f"{sent}",
                "ce-type": cloudevents.TELEMETRY_TYPES["report"],
                "ce-source": f"/peers/{peer}",
            }
            await client.publish(subject, _payload(sent % PEERS, template, sent // PEERS), headers=headers)
            sent += 1
        await client.flush(30)
        await asyncio.sleep(BATCH_S)


async def _waiting(reader: Connection) -> int:
    """The messages that the service has not processed."""
    info = await reader.client.jetstream().consumer_info(subjects.TELEMETRY_STREAM, CONSUMER)
    return int(info.num_pending or 0) + int(info.num_ack_pending or 0)


class LoadCallout(GrantingCallout):
    """Lets one user publish the telemetry of every peer."""

    def _decide(self, request: Claims) -> tuple[str, str, Permissions]:
        name, account, rights = super()._decide(request)
        everything = Permissions((*rights.publish, f"{subjects.VERSION}.telemetry.>"), rights.subscribe)
        return name, account, everything


async def _measure(folder: Path, database: PostgresServer) -> tuple[list[float], float, int]:
    async with AsyncExitStack() as exits:
        bus = await exits.enter_async_context(RealServer(folder))
        await exits.enter_async_context(kept_streams(bus))
        callout = await exits.enter_async_context(LoadCallout(bus))
        port = free_port()
        environment = {
            **os.environ, "WARREN_NATS_URL": bus.url, "WARREN_NKEY_FILE": str(folder / "keys" / "metrics.seed"),
            "WARREN_POSTGRES_DSN": database.dsn(), "WARREN_LOG_LEVEL": "warning",
            "WARREN_POLICY_PUBLIC_KEY": bus.public_keys["policy-signing"], "WARREN_METRICS_PORT": str(port),
            "WARREN_CALLER_KEYS": bus.caller_keys,
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "warren_metrics", env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        exits.push_async_callback(_end, process)
        service = psutil.Process(process.pid)
        service.cpu_affinity([CORE])
        settings, nkey = bus.new_agent("bench")
        callout.enrol(nkey, "bench", ())
        agent = await exits.enter_async_context(Connection(settings, name="bench", inbox_prefix=inbox("bench")))
        reader = await exits.enter_async_context(
            Connection(bus.settings("metrics"), name="reader", inbox_prefix=inbox("metrics"))
        )
        await reader.wait_connected()
        await eventually(partial(_exists, reader), WARM_UP_S, "the consumer exists", ignoring=(Error,))
        await _publish(agent, 0, PEERS)  # every tunnel is new: an event for each, which is not part of a steady load
        await eventually(partial(_is_idle, reader), WARM_UP_S, "everything is processed", pause_s=1.0)
        count = int(SECONDS * REPORTS_PER_SECOND)
        publishing = asyncio.create_task(_publish(agent, PEERS, count))
        delays: list[float] = []
        halfway, used = time.perf_counter() + SECONDS / 2, _cpu_seconds(service)
        while not publishing.done():
            await asyncio.wait({publishing}, timeout=2.0)
            waiting = await _waiting(reader)
            if time.perf_counter() >= halfway:
                delays.append(waiting / REPORTS_PER_SECOND)
        await publishing
        await eventually(partial(_is_idle, reader), WARM_UP_S, "everything is processed", pause_s=0.2)
        cpu = 100 * (_cpu_seconds(service) - used) / SECONDS  # of all of it, also if it took longer
        return delays, cpu, count


async def _exists(reader: Connection) -> bool:
    await _waiting(reader)
    return True


async def _is_idle(reader: Connection) -> bool:
    return await _waiting(reader) == 0


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        raise RuntimeError("the metrics service has ended: see its log above")
    process.terminate()
    await process.wait()


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def run() -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as folder, postgres_server() as database:
        delays, cpu, sent = asyncio.run(_measure(Path(folder), database))
    note = f"{sent} reports in {SECONDS:.0f} s, {cpu:.0f} % of one core"
    yield absolute("metrics_ingest", [statistics.median(delays)], "s", better="lower", target=MAX_BEHIND_S, note=note)


BENCHES = [Bench(("metrics_ingest",), run)]
