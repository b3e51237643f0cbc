"""Real parts for tests of whole service processes: nats-server, PostgreSQL, and `python -m <service>`."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.errors import BusError
from warren_bus.rpc import call
from warren_contracts import subjects
from warren_contracts.commands import Empty, Health
from warren_contracts.problems import WarrenError
from warren_testkit.bus import GrantingCallout, RealServer, free_port
from warren_testkit.bus.streams import kept_streams
from warren_testkit.metrics_process import MetricsProcess
from warren_testkit.postgres import PostgresServer, postgres_server
from warren_testkit.registry.stack import Stack
from warren_trust.errors import TrustError

LIMIT = 60.0  # s for a process to start or to end on a busy machine


class Process:
    """One service process: started with its settings in the environment, stopped or killed at will."""

    def __init__(self, module: str, environ: Mapping[str, str], log: Path) -> None:
        self._module = module
        self._environ = dict(environ)
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._module, stdout=output, stderr=output,
                env={"PATH": os.environ["PATH"], **self._environ},
            )  # fmt: skip

    async def end(self, number: signal.Signals) -> int:
        """Send the signal and wait; returns the exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        return await asyncio.wait_for(process.wait(), LIMIT)

    def send(self, number: signal.Signals) -> None:
        """Send it, and wait for nothing."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait until it ends by itself."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), LIMIT)

    def text(self) -> str:
        return self.log.read_text(errors="replace")


StartProcess = Callable[[str, Mapping[str, str]], Process]
Connect = Callable[[str], Awaitable[Connection]]


@pytest.fixture(scope="session")
def database() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def own_database() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    with postgres_server() as server:
        yield server


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[RealServer]:
    """A server of its own, whose streams are kept as in production."""
    async with RealServer(tmp_path / "bus") as server, kept_streams(server):
        yield server


@asynccontextmanager
async def processes(folder: Path) -> AsyncIterator[StartProcess]:
    """Makes processes with their logs in `folder`; whatever still runs at the end is killed."""
    made: list[Process] = []

    def make(module: str, environ: Mapping[str, str]) -> Process:
        made.append(Process(module, environ, folder / f"{module}-{len(made)}.log"))
        return made[-1]

    try:
        yield make
    finally:
        for one in made:
            await one.end(signal.SIGKILL)


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[StartProcess]:
    """See `processes`."""
    async with processes(tmp_path) as make:
        yield make


@pytest.fixture
async def stack(bus: RealServer, own_database: PostgresServer, process: StartProcess) -> AsyncIterator[Stack]:
    """The registry and the callout as processes, on a bus and a database of their own."""
    async with AsyncExitStack() as exits:
        made = Stack(bus, own_database, process, exits)
        await made.start()
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The same for all tests of a module that end none of its processes; they need names of their own, and the module's loop."""
    folder = tmp_path_factory.mktemp("stack")
    async with (
        RealServer(folder / "bus") as bus,
        kept_streams(bus),
        processes(folder) as make,
        AsyncExitStack() as exits,
    ):
        made = Stack(bus, exits.enter_context(postgres_server()), make, exits)
        await made.start()
        yield made


@pytest.fixture
async def agents(bus: RealServer) -> AsyncIterator[dict[str, Connection]]:
    """The connections of two enrolled agents, `gw1` and `hub-1`."""
    async with GrantingCallout(bus) as callout, AsyncExitStack() as stack:
        found = {}
        for peer in ("gw1", "hub-1"):
            settings, nkey = bus.new_agent(peer)
            callout.enrol(nkey, peer, ())
            found[peer] = await stack.enter_async_context(Connection(settings, name=peer, inbox_prefix=inbox(peer)))
            await found[peer].wait_connected()
        yield found


@pytest.fixture
async def connect(bus: RealServer) -> AsyncIterator[Connect]:
    """Connections as bus users of services, closed at the end."""
    async with AsyncExitStack() as stack:

        async def make(service: str) -> Connection:
            connection = Connection(bus.settings(service), name=f"test-{service}", inbox_prefix=inbox(service))
            await stack.enter_async_context(connection)
            await connection.wait_connected()
            return connection

        yield make


@pytest.fixture
def environ_of(bus: RealServer) -> Callable[[str, str], dict[str, str]]:
    """The settings of a service, with the DSN of its database."""

    def environment(service: str, dsn: str) -> dict[str, str]:
        return {
            "WARREN_NATS_URL": bus.url,
            "WARREN_NKEY_FILE": str(bus.folder / "keys" / f"{service}.seed"),
            "WARREN_POSTGRES_DSN": dsn,
            "WARREN_SIGNING_KEY_FILE": str(bus.folder / "keys" / f"{service}-signing.seed"),
            "WARREN_ROOT_PUBLIC_KEY": bus.public_keys["root"],
            "WARREN_CALLER_KEYS": bus.caller_keys,
            "WARREN_POLICY_PUBLIC_KEY": bus.public_keys["policy-signing"],
            "WARREN_LOG_FORMAT": "json",
        }

    return environment


async def _ready(connection: Connection, service: str, limit: float) -> Health:
    last: object = None
    end = asyncio.get_running_loop().time() + limit
    while asyncio.get_running_loop().time() < end:
        try:
            last = await call(connection.client, subjects.rpc(service, "health"), Empty(), Health, timeout=5.0)
            if last.ready:
                return last
        except (WarrenError, BusError, TrustError) as error:
            last = error
        await asyncio.sleep(0.05)
    raise AssertionError(f"{service} is not ready within {limit} s: {last}")


@pytest.fixture
def ready() -> Callable[..., Awaitable[Health]]:
    """Wait until a service says that it is ready: `await ready(connection, "policy")`."""

    async def wait(connection: Connection, service: str, limit: float = LIMIT) -> Health:
        return await _ready(connection, service, limit)

    return wait


@pytest.fixture
def chosen_database(request: pytest.FixtureRequest) -> PostgresServer:
    """One server for all tests; its own for a test that stops it."""
    if "stops" in request.node.name:
        own: PostgresServer = request.getfixturevalue("own_database")
        return own
    shared: PostgresServer = request.getfixturevalue("database")
    shared.sql("DROP SCHEMA IF EXISTS metrics CASCADE")
    return shared


@pytest.fixture
def more_settings() -> dict[str, str]:
    """Of the metrics service; a test may state its own."""
    return {}


@pytest.fixture
def metrics_environ(environ_of: Any, chosen_database: PostgresServer, more_settings: dict[str, str]) -> dict[str, str]:
    """The settings of the metrics service, with a free port."""
    environ: dict[str, str] = environ_of("metrics", chosen_database.dsn())
    return environ | {"WARREN_METRICS_PORT": str(free_port())} | more_settings


@pytest.fixture
async def metrics(
    bus: RealServer, agents: dict[str, Connection], chosen_database: PostgresServer, process: StartProcess, connect: Connect,
    metrics_environ: dict[str, str], ready: Any,
) -> MetricsProcess:  # fmt: skip
    service = process("warren_metrics", metrics_environ)
    await service.start()
    api, policy = await connect("api"), await connect("policy")
    await ready(api, "metrics")
    port = int(metrics_environ["WARREN_METRICS_PORT"])
    return MetricsProcess(bus, chosen_database, service, api, policy, agents, port)
