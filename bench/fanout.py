"""`fanout_1000`, `fanout_10000`: one publish until the last of so many agents' feeds holds the message.

Ours: a signed policy set for one tag, published to JetStream, republished, carried into the agents' account, through the real
feed with its sequence logic, to agents that the auth callout admitted. The rival: a core publish of the same bytes to as many
plain subscribers of the same client library, one connection each, in as many processes, on a server without accounts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path

import nats
from fanout_task import RAW_SUBJECT, Task
from harness import Bench, Rival, Row, absolute, compared
from nats.aio.client import Client
from nats.aio.msg import Msg

from warren_contracts import subjects
from warren_contracts.documents import DirectoryPageRequest
from warren_service import streams
from warren_testkit.bus import Fleet, GrantingCallout, RealServer, SignedBytes, free_port, server_binary
from warren_testkit.bus.streams import declare_streams
from warren_trust.keys import KeyKind, KeyPair, write_seed

RUNS = 15
TARGET = 1 / 1.5  # at most 1.5 times raw
WORKERS = 2  # as many as there are cores here
SPARE_FILES = 512
SETUP_LIMIT = 300.0  # s
SPREAD_LIMIT = 60.0  # s
READER = subjects.tag_reader("branch")


class Worker:
    """One process of simulated agents."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: dict[str, asyncio.Queue[str]] = defaultdict(asyncio.Queue)
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, task: Task) -> Worker:
        worker = await cls.start_script("fanout_worker.py")
        worker.say(json.dumps(asdict(task)))
        return worker

    @classmethod
    async def start_script(cls, name: str) -> Worker:
        """A process of another script of this folder."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name(name)),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        )  # fmt: skip
        return cls(process)

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    async def expect(self, word: str, limit: float) -> str:
        """The rest of the next line that begins with `word`."""
        waiting = asyncio.ensure_future(self._lines[word].get())
        done, _ = await asyncio.wait({waiting, self._reader}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if waiting not in done:
            waiting.cancel()
            raise RuntimeError(f"a worker said no {word!r} within {limit} s")
        return waiting.result()

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 60)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            word, _, rest = line.decode().strip().partition(" ")
            self._lines[word].put_nowait(rest)


class Audience:
    """All workers of one mode."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers
        self._number = 0

    async def ready(self) -> None:
        await asyncio.gather(*(worker.expect("ready", SETUP_LIMIT) for worker in self._workers))

    async def gate(self, word: str) -> None:
        for worker in self._workers:
            worker.say(word)
        if word == "close":
            await asyncio.gather(*(worker.expect("closed", SPREAD_LIMIT) for worker in self._workers))

    async def last(self, word: str) -> float:
        """When the last agent of all has got so far with the current message."""
        answers = await asyncio.gather(*(worker.expect(word, SPREAD_LIMIT) for worker in self._workers))
        numbers = {int(answer.split()[0]) for answer in answers}
        if len(numbers) != 1:
            raise RuntimeError(f"the workers are at different messages: {numbers}")
        return max(float(answer.split()[1]) for answer in answers)


class Registry:
    """Answers whoami and directory for the simulated agents, signed as the registry does."""

    def __init__(self, client: Client, fleet: Fleet) -> None:
        self._client = client
        self._fleet = fleet

    async def start(self) -> None:
        await self._client.subscribe("warren.v1.rpc.agent.*.*", cb=self._answer)
        await self._client.flush()

    async def _answer(self, message: Msg) -> None:
        peer, verb = message.subject.split(".")[4:6]
        if verb == "whoami":
            signed = self._fleet.whoami(peer, digests=False)
        else:
            signed = self._fleet.page(peer, DirectoryPageRequest.model_validate_json(message.data))
        await self._client.publish(message.reply, signed.payload, headers=signed.headers)


def raise_file_limit(agents: int) -> None:
    """Let this process and its children hold so many connections; RuntimeError says that it cannot be had."""
    needed = agents + SPARE_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(needed, hard), max(needed, hard)))
    except (ValueError, PermissionError) as error:
        raise RuntimeError(f"{needed} open files are needed and {hard} allowed: raise the limit (ulimit -n)") from error


async def _measure(agents: int) -> list[Row]:
    raise_file_limit(agents)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wfan-")))
        ours = await stack.enter_async_context(_our_side(folder, agents))
        rival = await stack.enter_async_context(_rival_side(folder, agents))
        mine, verified, theirs = [], [], []
        for _ in range(RUNS):
            spread, believed = await ours.publish()
            mine.append(spread * 1e3)
            verified.append(believed * 1e3)
            theirs.append(await rival.publish(ours.payload) * 1e3)
    size = len(ours.payload.payload)
    return [
        compared(
            f"fanout_{agents}", mine, Rival("raw core publish", theirs), "ms", better="lower", target=TARGET,
            note=f"publish to the last of {agents} feeds holding a signed set of {size} bytes, by the auth callout's users",
        ),
        absolute(
            f"fanout_{agents}_verified", verified, "ms", better="lower", target=None,
            note=f"until all {agents} have also verified and parsed it, all on these cores",
        ),
    ]  # fmt: skip


class OurSide:
    """The publisher and its audience of feeds."""

    def __init__(self, client: Client, fleet: Fleet, audience: Audience) -> None:
        self._js = client.jetstream(timeout=SPREAD_LIMIT)
        self._fleet = fleet
        self._audience = audience
        self.payload = fleet.signed_set(READER)

    async def publish(self) -> tuple[float, float]:
        """Seconds until the last feed holds it, and (counted from the gate's opening) until the last has verified it."""
        (self.payload,) = self._fleet.assign({READER: ("mesh",)})
        await self._audience.gate("close")
        start = time.monotonic()
        await self._js.publish(self.payload.subject, self.payload.payload, headers=self.payload.headers)
        held = await self._audience.last("held") - start
        opened = time.monotonic()
        await self._audience.gate("open")
        return held, held + await self._audience.last("verified") - opened


class RivalSide:
    """A core publisher and its audience of plain subscribers."""

    def __init__(self, client: Client, audience: Audience) -> None:
        self._client = client
        self._audience = audience

    async def publish(self, message: SignedBytes) -> float:
        start = time.monotonic()
        await self._client.publish(RAW_SUBJECT, message.payload, headers=message.headers)
        await self._client.flush()
        return await self._audience.last("held") - start


def _shares(names: list[str]) -> list[list[str]]:
    return [names[number::WORKERS] for number in range(WORKERS)]


@contextlib.asynccontextmanager
async def _audience(tasks: list[Task]) -> AsyncIterator[Audience]:
    workers = [await Worker.start(task) for task in tasks]
    try:
        audience = Audience(workers)
        await audience.ready()
        yield audience
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))


@contextlib.asynccontextmanager
async def _our_side(folder: Path, agents: int) -> AsyncIterator[OurSide]:
    keys = folder / "agents"
    keys.mkdir()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(folder))
        callout = await stack.enter_async_context(GrantingCallout(server))
        fleet, names = Fleet(), [f"gw{number}" for number in range(agents)]
        for name in names:
            pair = KeyPair.generate(KeyKind.USER)
            write_seed(keys / f"{name}.seed", pair)
            callout.enrol(pair.public, name, ("branch",))
            fleet.enrol(name, "branch")
        services = {name: await _service(stack, server, name) for name in ("policy", "registry")}
        await declare_streams(server, streams.POLICY, streams.DIRECTORY, streams.SECRET)
        await Registry(services["registry"], fleet).start()
        (first,) = fleet.assign({READER: ("mesh",)})
        await services["policy"].jetstream().publish(first.subject, first.payload, headers=first.headers)
        identity, base = fleet.identity(names[0]), fleet.revision
        tasks = [
            Task("feed", server.url, share, str(keys), identity.root, fleet.trust.model_dump_json(), base)
            for share in _shares(names)
        ]
        audience = await stack.enter_async_context(_audience(tasks))
        yield OurSide(services["policy"], fleet, audience)


async def _service(stack: AsyncExitStack, server: RealServer, name: str) -> Client:
    seed = server.settings(name).key().seed
    client = await nats.connect(
        server.url, nkeys_seed_str=seed, inbox_prefix=f"_INBOX.{name}".encode(), allow_reconnect=False
    )
    stack.push_async_callback(client.close)
    return client


@contextlib.asynccontextmanager
async def _rival_side(folder: Path, agents: int) -> AsyncIterator[RivalSide]:
    port = free_port()
    with (folder / "raw.log").open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            server_binary(), "-a", "127.0.0.1", "-p", str(port), stdout=output, stderr=output
        )
    try:
        client = await _connect_raw(port)
        async with _audience(
            [Task("raw", f"nats://127.0.0.1:{port}", share) for share in _shares(["s"] * agents)]
        ) as audience:
            yield RivalSide(client, audience)
        await client.close()
    finally:
        process.terminate()
        await process.wait()


async def _connect_raw(port: int) -> Client:
    """Connect as soon as the server listens: nats-py's own first attempts wait for it, 10 s at most."""
    return await nats.connect(
        f"nats://127.0.0.1:{port}", max_reconnect_attempts=200, reconnect_time_wait=0.05, error_cb=_no_news
    )


async def _no_news(_: Exception) -> None:
    """Say nothing of a refused attempt."""


def run_1000() -> Iterable[Row]:
    yield from asyncio.run(_measure(1_000))


def run_10000() -> Iterable[Row]:
    yield from asyncio.run(_measure(10_000))


BENCHES = (
    Bench(("fanout_1000", "fanout_1000_verified"), run_1000, "fan-out to a thousand feeds"),
    Bench(("fanout_10000", "fanout_10000_verified"), run_10000, "fan-out to ten thousand feeds"),
)
