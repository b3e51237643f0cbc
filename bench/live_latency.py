"""`live_latency`: from a change that a gateway publishes to a client of `/api/live`, with 10,000 tunnels.

The real metrics service and the real API server as processes of their own, with a real nats-server and PostgreSQL; registry and policy
answer from memory. Ten gateways report 1,000 tunnels each every ten seconds, and one tunnel changes 20 times a second. Measured is the
95th percentile of each run of 100 changes: from the publication to the arrival of the row at a client that reads server-sent events.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from harness import Bench, Row, absolute
from nats.aio.msg import Msg

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_contracts import cloudevents, subjects
from warren_contracts.commands import Role
from warren_contracts.problems import CONTENT_TYPE, WarrenError
from warren_contracts.status import TunnelState, TunnelStatus
from warren_contracts.telemetry import Report, TunnelChange
from warren_contracts.verbs import COMMANDS
from warren_testkit.api import TOKENS, FakeBus
from warren_testkit.bus import GrantingCallout, RealServer, free_port
from warren_testkit.bus.streams import kept_streams
from warren_testkit.postgres import PostgresServer, postgres_server

HUBS, SPOKES = 10, 1_000  # 10,000 tunnels
PART = 100  # tunnels of one part of a report
CHANGES, RUNS, PAUSE_S = 100, 5, 0.05
MAX_P95_MS = 500.0

Agents = dict[str, Connection]


@dataclass(frozen=True)
class Fleet:
    """A running fleet: connections of its gateways, and a client of the API server."""

    agents: Agents
    url: str
    client: httpx.AsyncClient
    states: dict[
        tuple[int, int], TunnelState
    ]  # by gateway and number, of those that are reported in another state than up


def status(hub: int, spoke: int, state: TunnelState) -> TunnelStatus:
    return TunnelStatus(
        name=f"hub-{hub}+spoke-{hub}-{spoke}", state=state, peer=f"spoke-{hub}-{spoke}", policy="branches"
    )


async def publish(agents: Agents, peer: str, kind: str, body: Report | TunnelChange, number: int) -> None:
    headers = {
        "ce-id": f"{peer}-{kind}-{number}", "ce-type": cloudevents.TELEMETRY_TYPES[kind], "ce-source": f"/peers/{peer}",
    }  # fmt: skip
    await agents[peer].client.publish(subjects.telemetry(peer, kind), body.model_dump_json().encode(), headers=headers)


async def _report(agents: Agents, round_: int, states: dict[tuple[int, int], TunnelState]) -> None:
    """One report of every gateway, in parts."""
    parts = SPOKES // PART
    for hub in range(len(agents)):
        at = datetime.now(UTC)
        for part in range(parts):
            numbers = range(part * PART, (part + 1) * PART)
            tunnels = tuple(status(hub, n, states.get((hub, n), TunnelState.UP)) for n in numbers)
            body = Report(at=at, part=part, parts=parts, tunnels=tunnels)
            await publish(agents, f"hub-{hub}", "report", body, round_ * 1_000 + part)
        await asyncio.sleep(0.1)


async def _reports(agents: Agents, states: dict[tuple[int, int], TunnelState], pause_s: float) -> None:
    for round_ in range(1, 1_000):
        await asyncio.sleep(pause_s)
        await _report(agents, round_, states)


async def serve_from_memory(exits: AsyncExitStack, bus: RealServer, name: str, memory: FakeBus) -> None:
    """A service that answers from memory."""
    connection = await exits.enter_async_context(Connection(bus.settings(name), name=name, inbox_prefix=inbox(name)))

    async def answer(message: Msg) -> None:
        verb = message.subject.rsplit(".", 1)[1]
        command = next(it for it in COMMANDS if (it.service, it.verb) == (name, verb))
        headers: dict[str, str] | None = None
        try:
            request = command.request.model_validate_json(message.data)
            body = (await memory.call(name, verb, request, command.reply)).model_dump_json()
        except WarrenError as error:
            body, headers = error.problem().model_dump_json(), {"content-type": CONTENT_TYPE}
        await connection.client.publish(message.reply, body.encode(), headers=headers)

    await (await connection.wait_connected()).subscribe(f"{subjects.VERSION}.rpc.{name}.*", cb=answer)


async def start_process(exits: AsyncExitStack, folder: Path, module: str, environment: dict[str, str]) -> None:
    with (folder / f"{module}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, env={**os.environ, **environment}, stdout=log, stderr=log
        )
    exits.push_async_callback(_ended, process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def messages_of(client: httpx.AsyncClient, url: str) -> AsyncGenerator[tuple[float, dict[str, Any]], None]:
    """The messages of the live stream, each with its arrival."""
    headers = {"authorization": f"Bearer {TOKENS[Role.VIEWER]}"}
    async with client.stream("GET", f"{url}/api/live", headers=headers, timeout=60) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield time.perf_counter(), json.loads(line[6:])


@asynccontextmanager
async def running_fleet(
    folder: Path, database: PostgresServer, hubs: int = HUBS, pause_s: float = 9.0
) -> AsyncIterator[Fleet]:
    """The metrics service and the API server, and gateways that report 1,000 tunnels each, with this pause between two rounds."""
    async with AsyncExitStack() as exits:
        bus = await exits.enter_async_context(RealServer(folder))
        await exits.enter_async_context(kept_streams(bus))
        callout = await exits.enter_async_context(GrantingCallout(bus))
        public = json.loads((folder / "keys" / "public.json").read_text())
        metrics_port, port = free_port(), free_port()
        keys = folder / "keys"
        await start_process(exits, folder, "warren_metrics", {
            "WARREN_NATS_URL": bus.url, "WARREN_NKEY_FILE": str(keys / "metrics.seed"),
            "WARREN_POSTGRES_DSN": database.dsn(),
            "WARREN_POLICY_PUBLIC_KEY": public["policy-signing"], "WARREN_CALLER_KEYS": bus.caller_keys,
            "WARREN_METRICS_PORT": str(metrics_port),
        })  # fmt: skip
        await start_process(exits, folder, "warren_api", {
            "WARREN_NATS_URL": bus.url, "WARREN_NKEY_FILE": str(keys / "api.seed"), "WARREN_HTTP_PORT": str(port),
            "WARREN_HTTP_CLEARTEXT": "allow",
        })  # fmt: skip
        memory = FakeBus()
        for hub in range(hubs):
            memory.add_peer(f"hub-{hub}", "hub")
        for name in ("registry", "policy"):
            await serve_from_memory(exits, bus, name, memory)
        agents = {}
        for hub in range(hubs):
            settings, nkey = bus.new_agent(f"hub-{hub}")
            callout.enrol(nkey, f"hub-{hub}", ())
            connection = Connection(settings, name=f"hub-{hub}", inbox_prefix=inbox(f"hub-{hub}"))
            agents[f"hub-{hub}"] = await exits.enter_async_context(connection)
            await connection.wait_connected()
        states: dict[tuple[int, int], TunnelState] = {}
        await _report(agents, 0, states)
        url = f"http://127.0.0.1:{port}"
        client = await exits.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60))
        await _until_listed(client, url, hubs)
        reporting = asyncio.create_task(_reports(agents, states, pause_s))
        exits.callback(reporting.cancel)
        yield Fleet(agents, url, client, states)


async def _measure(folder: Path, database: PostgresServer) -> list[float]:
    async with running_fleet(folder, database) as fleet, aclosing(messages_of(fleet.client, fleet.url)) as messages:
        return await _latencies(fleet.agents, messages)


async def _latencies(agents: Agents, messages: AsyncIterator[tuple[float, dict[str, Any]]]) -> list[float]:
    """The 95th percentile of each run, in ms."""
    tunnels = 0
    async for _, message in messages:
        tunnels += len(message.get("tunnels", ()))
        if message["kind"] == "ready":
            break
    assert tunnels == HUBS * SPOKES, tunnels
    results = []
    for run in range(RUNS):
        sent: dict[str, float] = {}
        took: list[float] = []

        async def change(run: int = run, sent: dict[str, float] = sent) -> None:
            for number in range(CHANGES):
                hub, spoke = number % HUBS, run * CHANGES + number
                changed = status(hub, spoke, TunnelState.DOWN)
                sent[changed.name] = time.perf_counter()
                body = TunnelChange(at=datetime.now(UTC), previous=TunnelState.UP, status=changed)
                await publish(agents, f"hub-{hub}", "tunnel", body, run * CHANGES + number)
                await asyncio.sleep(PAUSE_S)

        changing = asyncio.create_task(change())
        async for arrived, message in messages:
            for row in message.get("tunnels", ()):
                if row["state"] == "down" and row["name"] in sent:
                    took.append(1_000 * (arrived - sent.pop(row["name"])))
            if len(took) == CHANGES:
                break
        await changing
        results.append(statistics.quantiles(took, n=20)[-1])
    return results


async def _until_listed(client: httpx.AsyncClient, url: str, hubs: int) -> None:
    """Wait until the API server answers, and the metrics service has all tunnels."""
    headers = {"authorization": f"Bearer {TOKENS[Role.VIEWER]}"}
    last = f"{url}/api/tunnels/hub-{hubs - 1}+spoke-{hubs - 1}-{SPOKES - 1}"
    async with asyncio.timeout(60):
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get(last, headers=headers)).status_code == 200:
                    return
            await asyncio.sleep(0.2)


def run() -> Iterable[Row]:
    with tempfile.TemporaryDirectory() as folder, postgres_server() as database:
        found = asyncio.run(_measure(Path(folder), database))
    note = (
        f"95th percentile of {CHANGES} changes; {HUBS * SPOKES} tunnels, each reported every 10 s, 20 changes a second"
    )
    yield absolute("live_latency", found, "ms", better="lower", target=MAX_P95_MS, note=note)


BENCHES = [Bench(("live_latency",), run)]
