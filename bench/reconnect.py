"""`reconnect_10000`: a bus that restarts, and ten thousand agents that return over TLS.

Server, callout and PostgreSQL are real, and so are an agent's handshake, signature and back-off. The clock runs from the moment in
which the new server process is started until the last agent is admitted. Next to it, what one decision costs the callout's processor.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil
from fanout import Worker, raise_file_limit
from harness import Bench, Row, absolute

from warren_registry.adapters.postgres.database import registry_store
from warren_testkit.bus import RealServer
from warren_testkit.bus.certificates import server_tls
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, KeyPair, write_seed

AGENTS = 10_000
WORKERS = 2
RUNS = 5
RESTART_AFTER_S = 2.0  # as the supervisor of `warren up` does
TARGET_S = 60.0
DECISION_MS = 1.0
SETUP_LIMIT_S = 300.0
FOLDER = Path(__file__).parent


async def _enrol(database: PostgresServer, nkeys: list[str]) -> None:
    """Rows of peers, as enrolments leave them."""
    async with registry_store(database.dsn()) as store, store.transaction() as connection:
        await connection.executemany(
            "INSERT INTO peer (id, nkey, tags, version, join_token, hostname, allowed, identity, enrolled_at)"
            " VALUES ($1, $2, '{branch}', $3, '', '', '{}', $1, now())",
            [(f"gw{number}", nkey, number + 1) for number, nkey in enumerate(nkeys)],
        )


@asynccontextmanager
async def _callout(server: RealServer, database: PostgresServer, log: Path) -> AsyncIterator[psutil.Process]:
    keys = server.folder / "keys"
    environment = {
        "PATH": os.environ["PATH"], "WARREN_POSTGRES_DSN": database.dsn(), "WARREN_NATS_URL": server.url,
        "WARREN_CA_FILE": str(server.ca_file), "WARREN_NKEY_FILE": str(keys / "callout.seed"), "WARREN_LOG_LEVEL": "info",
        "WARREN_ISSUER_KEY_FILE": str(keys / "issuer.seed"), "WARREN_LOG_FORMAT": "json",
    }  # fmt: skip
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "warren_callout", env=environment, stdout=output, stderr=output
        )
    try:
        await eventually(lambda: "callout.listening" in log.read_text(), 60, "the callout")
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def _all_connected(workers: list[Worker], since: float) -> float:
    """When the last agent was admitted, after `since`."""
    last = since
    for worker in workers:
        at = 0.0
        while at < since:  # an agent that was lost and returned before it
            at = float((await worker.expect("connected", SETUP_LIMIT_S)).split()[1])
        last = max(last, at)
    return last


async def _counts(workers: list[Worker]) -> tuple[int, int]:
    """Refusals, and all attempts that failed, since the last time."""
    for worker in workers:
        worker.say("count")
    answers = [(await worker.expect("count", 60)).split() for worker in workers]
    return sum(int(answer[0]) for answer in answers), sum(int(answer[1]) for answer in answers)


async def measure(agents: int = AGENTS, runs: int = RUNS) -> list[Row]:
    raise_file_limit(agents)
    loop = asyncio.get_running_loop()
    took, decisions, refused, failed = [], [], 0, 0
    async with AsyncExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="wrec-")))
        database = exits.enter_context(postgres_server())
        seeds, nkeys = [], []
        for number in range(agents):
            pair = KeyPair.generate(KeyKind.USER)
            write_seed(folder / f"{number}.seed", pair)
            seeds.append(str(folder / f"{number}.seed"))
            nkeys.append(pair.public)
        await _enrol(database, nkeys)
        server = await exits.enter_async_context(RealServer(folder / "bus", tls=server_tls(folder / "tls")))
        callout = await exits.enter_async_context(_callout(server, database, folder / "callout.log"))
        workers = []
        for number in range(WORKERS):
            worker = await Worker.start_script("reconnect_worker.py")
            exits.push_async_callback(worker.stop)
            task = {
                "host": "127.0.0.1",
                "port": server.port,
                "ca_file": str(server.ca_file),
                "seeds": seeds[number::WORKERS],
            }
            worker.say(json.dumps(task))
            workers.append(worker)
        await _all_connected(workers, 0.0)
        await _counts(workers)
        for _ in range(runs):
            before = sum(callout.cpu_times()[:2])
            await server.kill()
            await asyncio.sleep(RESTART_AFTER_S)
            begin = loop.time()
            await server.start()
            took.append(await _all_connected(workers, begin) - begin)
            now = await _counts(workers)
            refused, failed = refused + now[0], failed + now[1]
            decisions.append((sum(callout.cpu_times()[:2]) - before) / agents * 1_000)
    note = (
        f"from the start of the new server to the last of {agents} agents; {failed} attempts failed in {runs} restarts"
    )
    return [
        absolute(f"reconnect_{agents}", took, "s", better="lower", target=TARGET_S, note=note),
        absolute(f"reconnect_{agents}_refused", [float(refused)], "agents", better="lower", target=0, note="by the callout"),
        absolute("callout_decision", decisions, "ms", better="lower", target=DECISION_MS, note="CPU of the callout for a connection"),
    ]  # fmt: skip


def run() -> Iterable[Row]:
    yield from asyncio.run(measure())


BENCHES = (
    Bench((f"reconnect_{AGENTS}", f"reconnect_{AGENTS}_refused", "callout_decision"), run, "a restart of the bus"),
)
