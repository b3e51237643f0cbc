"""`first_reading`: from the start of the API server until it has read a fleet of 100,000 tunnels, and of 20,000.

The metrics service and the API server are processes of their own, with a real nats-server and PostgreSQL; registry and policy answer
from memory. The metrics service has restored its tunnels from PostgreSQL, as after a restart. Measured is the time until the first page of
`/api/tunnels`, and until a client of `/api/live` has the whole snapshot: the API server reads the fleet for it when the first one asks.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
from harness import Bench, Row, absolute
from live_latency import PART, SPOKES, messages_of, serve_from_memory, start_process, status

from warren_contracts import subjects
from warren_contracts.commands import Role
from warren_contracts.status import TunnelState
from warren_contracts.telemetry import Report
from warren_metrics.adapters.postgres import PostgresFleetStore, make_store
from warren_metrics.domain.fleet import FleetTelemetry
from warren_metrics.domain.parse import MessageSource, parse
from warren_metrics.ports import RowChanges
from warren_store import PostgresUnavailableError
from warren_testkit.api import TOKENS, FakeBus
from warren_testkit.bus import GrantingCallout, RealServer, free_port
from warren_testkit.bus.streams import kept_streams
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_testkit.waiting import eventually

HUBS = (20, 100)  # of 1,000 tunnels each
ROWS_AT_ONCE = 10_000
LIMIT_S = 60.0
MAX_S = 10.0  # what a client waits for the fleet


async def _store_fleet(dsn: str, hubs: int) -> None:
    """Store the tunnels as a metrics service does that has received one report of each hub."""
    fleet, now = FleetTelemetry(), datetime.now(UTC)
    for number in range(hubs * SPOKES // PART):
        hub, part = divmod(number, SPOKES // PART)
        numbers = range(part * PART, (part + 1) * PART)
        tunnels = tuple(status(hub, n, TunnelState.UP) for n in numbers)
        report = Report(at=now, part=part, parts=SPOKES // PART, tunnels=tunnels)
        place = MessageSource(number + 1, now)
        fleet.observe(parse(subjects.telemetry(f"hub-{hub}", "report"), report.model_dump_json().encode(), place))
    keys = [(peer, name) for name, ends in fleet.tunnels.items() for peer in ends]
    async with make_store(dsn) as store, asyncio.timeout(LIMIT_S):
        saving = PostgresFleetStore(store)
        while True:
            with suppress(PostgresUnavailableError):  # it is migrated first
                await saving.save(RowChanges(fleet.peers, {}))
                break
            await asyncio.sleep(0.05)
        for at in range(0, len(keys), ROWS_AT_ONCE):
            await saving.save(RowChanges({}, {key: fleet.tunnel(key) for key in keys[at : at + ROWS_AT_ONCE]}))


async def _measure(folder: Path, database: PostgresServer, hubs: int) -> tuple[float, float]:
    """Seconds until the first page, and until the snapshot is complete."""
    await _store_fleet(database.dsn(), hubs)
    async with AsyncExitStack() as exits:
        bus = await exits.enter_async_context(RealServer(folder))
        await exits.enter_async_context(kept_streams(bus))
        await exits.enter_async_context(GrantingCallout(bus))
        public, keys = json.loads((folder / "keys" / "public.json").read_text()), folder / "keys"
        memory = FakeBus()
        for hub in range(hubs):
            memory.add_peer(f"hub-{hub}", "hub")
        for name in ("registry", "policy"):
            await serve_from_memory(exits, bus, name, memory)
        await start_process(exits, folder, "warren_metrics", {
            "WARREN_NATS_URL": bus.url, "WARREN_NKEY_FILE": str(keys / "metrics.seed"),
            "WARREN_POSTGRES_DSN": database.dsn(), "WARREN_POLICY_PUBLIC_KEY": public["policy-signing"],
            "WARREN_CALLER_KEYS": bus.caller_keys, "WARREN_METRICS_PORT": str(free_port()),
        })  # fmt: skip
        log = folder / "warren_metrics.log"
        await eventually(lambda: b"metrics.restored" in log.read_bytes(), LIMIT_S, "the state is restored")
        port, began = free_port(), time.perf_counter()
        await start_process(exits, folder, "warren_api", {
            "WARREN_NATS_URL": bus.url, "WARREN_NKEY_FILE": str(keys / "api.seed"), "WARREN_HTTP_PORT": str(port),
            "WARREN_HTTP_CLEARTEXT": "allow",
        })  # fmt: skip
        client = await exits.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=LIMIT_S))
        url = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(LIMIT_S):
            await _first_page(client, url)
            page = time.perf_counter() - began
            assert await _snapshot(client, url) == hubs * SPOKES
        return page, time.perf_counter() - began


async def _first_page(client: httpx.AsyncClient, url: str) -> None:
    headers = {"authorization": f"Bearer {TOKENS[Role.VIEWER]}"}
    while True:
        with suppress(httpx.TransportError):  # it is starting
            answer = await client.get(f"{url}/api/tunnels?limit=500", headers=headers)
            if answer.status_code == 200 and len(answer.json()["tunnels"]) == 500:
                return
        await asyncio.sleep(0.01)


async def _snapshot(client: httpx.AsyncClient, url: str) -> int:
    """The tunnels of the first complete snapshot."""
    while True:
        tunnels = 0
        with suppress(httpx.HTTPStatusError):  # 503: the fleet is not read within what a client waits
            async with aclosing(messages_of(client, url)) as messages:
                async for _, message in messages:
                    tunnels += len(message.get("tunnels", ()))
                    if message["kind"] == "ready":
                        return tunnels
        await asyncio.sleep(0.1)


def run() -> Iterable[Row]:
    for hubs in HUBS:
        with tempfile.TemporaryDirectory() as folder, postgres_server() as database:
            page, snapshot = asyncio.run(_measure(Path(folder), database, hubs))
        tunnels = hubs * SPOKES
        yield absolute(
            f"first_page_{tunnels}", [page], "s", better="lower", target=None,
            note="from the start of the API server to the first 500 tunnels of /api/tunnels",
        )  # fmt: skip
        yield absolute(
            f"first_reading_{tunnels}", [snapshot], "s", better="lower", target=MAX_S if hubs == HUBS[-1] else None,
            note="the same to the end of the first snapshot of /api/live",
        )  # fmt: skip


BENCHES = [Bench(tuple(f"{kind}_{hubs * SPOKES}" for hubs in HUBS for kind in ("first_page", "first_reading")), run)]
