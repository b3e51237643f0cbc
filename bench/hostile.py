"""`hostile_*`: what one hostile client costs the others, on a whole `warren up` over TLS.

A policy is changed over HTTPS again and again; a sample is the time from the request until the last of the honest agents, real
feeds with verified signatures, holds the change. Rounds alternate: the attacker sends its load to the bus, and then the same load to
an unrelated server (`hostile_sink.py`), so that what the attacker itself costs these cores is in both. Reported is how much later the
99th percentile is. Besides, every honest connection that was lost is counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from harness import Bench, Row, absolute
from hostile_attacker import KINDS, Attack

from warren_bus import rpc
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.feed import Feed, FeedIdentity
from warren_bus.settings import BusSettings
from warren_contracts import subjects
from warren_contracts.documents import EnrolReply, EnrolRequest
from warren_testkit.up import WARREN, Up, running_up
from warren_trust.keys import KeyKind, KeyPair, write_seed
from warren_trust.signing import verify_trust

HONEST = 20  # agents
ROUNDS = 5  # pairs of rounds
CHANGES = 40  # of a round
PERCENTILE = 99
WARM_UP_S = 3.0  # from the start of an attack until the first sample: its bursts are spent
TARGET_MS = 100.0
LIMIT_S = 60.0
FOLDER = Path(__file__).parent
POLICY = {"id": "sites", "topology": {"kind": "mesh", "members": ["tag=site"]}}


@dataclass
class Agent:
    """An honest agent: its connection, its feed, and the newest revision that it holds."""

    connection: Connection
    feed: Feed
    lost: int = 0
    revision: int = 0

    async def follow(self, moved: asyncio.Condition) -> None:
        async for state in self.feed:
            self.revision = state.policy_revision
            async with moved:
                moved.notify_all()


class Bed:
    """A control plane with honest agents, and what an attacker needs."""

    def __init__(self, up: Up, folder: Path, exits: AsyncExitStack) -> None:
        self.up, self.folder, self.exits = up, folder, exits
        self.url = urlsplit(up.info["nats_url"])
        self.ca_file = up.info["ca_file"]
        self.agents: list[Agent] = []
        self.moved = asyncio.Condition()
        self._changes = 0
        token = secret_of(Path(up.info["token_file"]))
        self.api = httpx.AsyncClient(
            base_url=up.info["url"], verify=ssl.create_default_context(cafile=self.ca_file), timeout=30, trust_env=False,
            headers={"authorization": f"Bearer {token}"},
        )  # fmt: skip
        exits.push_async_callback(self.api.aclose)

    def warren(self, *arguments: str) -> str:
        """Run an operator's verb."""
        environment = {**os.environ, "WARREN_URL": self.up.info["url"], "WARREN_TOKEN_FILE": self.up.info["token_file"]}
        done = subprocess.run(
            [WARREN, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def join_token(self, name: str, uses: int) -> Path:
        """The file of a new join token."""
        path = self.folder / name
        self.warren("token", "create", "--tag", "site", "--uses", str(uses), "--out", str(path))
        return path

    def settings(self, name: str, token: str = "") -> BusSettings:
        seed = self.folder / f"{name}.seed"
        if not seed.exists():
            write_seed(seed, KeyPair.generate(KeyKind.USER))
        return BusSettings((self.up.info["nats_url"],), seed, token, ca_file=Path(self.ca_file))

    async def enrol(self, name: str, token: str) -> EnrolReply:
        settings = self.settings(name, token)
        nkey = settings.key().public
        async with Connection(settings, name="join", inbox_prefix=inbox(nkey)) as connection:
            client = await connection.wait_connected()
            return await rpc.call(client, subjects.rpc_enrol(nkey), EnrolRequest(peer=name, token=token), EnrolReply)

    async def join(self, name: str, token: str) -> None:
        """One more honest agent."""
        reply = await self.enrol(name, token)
        connection = await self.exits.enter_async_context(
            Connection(self.settings(name), name=name, inbox_prefix=inbox(name))
        )
        identity = FeedIdentity(name, reply.root)
        feed = await self.exits.enter_async_context(Feed(connection, identity, verify_trust(reply.root, reply.trust)))
        agent = Agent(connection, feed)

        def lost() -> None:
            agent.lost += 1

        connection.on_disconnected(lost)
        following = asyncio.create_task(agent.follow(self.moved))
        self.exits.callback(following.cancel)
        self.agents.append(agent)

    async def change(self) -> float:
        """Change the policy; milliseconds from the request until the last agent holds it."""
        self._changes += 1
        begin = time.monotonic()
        reply = await self.api.put("/api/policies/sites", json={**POLICY, "description": f"change {self._changes}"})
        reply.raise_for_status()
        revision: int = reply.json()["revision"]
        async with asyncio.timeout(LIMIT_S), self.moved:
            await self.moved.wait_for(lambda: all(agent.revision >= revision for agent in self.agents))
        return (time.monotonic() - begin) * 1_000

    async def percentile(self) -> float:
        samples = [await self.change() for _ in range(CHANGES)]
        return statistics.quantiles(samples, n=100, method="inclusive")[PERCENTILE - 1]


def secret_of(path: Path) -> str:
    return path.read_text().strip()


@contextmanager
def sink(bed: Bed) -> Iterator[int]:
    """The port of an unrelated server, with a certificate that the attacker accepts."""
    files = Path(bed.up.info["data"]) / "tls" / "nats"
    command = [sys.executable, str(FOLDER / "hostile_sink.py"), str(files / "tls.crt"), str(files / "tls.key")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()


@asynccontextmanager
async def attacking(attack: Attack) -> AsyncIterator[Counter[str]]:
    """The attack, for as long as the context is open; what it has sent is counted at its end."""
    sent: Counter[str] = Counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(FOLDER / "hostile_attacker.py"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(asdict(attack)).encode() + b"\n")
        if await asyncio.wait_for(process.stdout.readline(), LIMIT_S) != b"ready\n":
            raise RuntimeError(f"the attacker {attack.kind} did not start")
        await asyncio.sleep(WARM_UP_S)
        yield sent
        if process.returncode is not None:
            raise RuntimeError(f"the attacker {attack.kind} ended by itself ({process.returncode})")
    finally:
        process.stdin.close()
        try:
            sent.update(json.loads(await asyncio.wait_for(process.stdout.readline(), 20) or b"{}"))
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="whos-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)  # the parts have users of their own
        yield Path(name)


@asynccontextmanager
async def bed() -> AsyncIterator[Bed]:
    """`warren up` with its honest agents joined and the first policy in force."""
    async with AsyncExitStack() as exits:
        folder = exits.enter_context(_folder())
        found = Bed(exits.enter_context(running_up(folder / "data")), folder, exits)
        join = found.join_token("site.join", HONEST)
        for number in range(HONEST):
            await found.join(f"gw{number}", secret_of(join))
        await found.change()
        yield found


async def attacks(found: Bed) -> dict[str, dict[str, Any]]:
    """What each kind of attacker holds."""
    join = found.join_token("hostile.join", 5)
    await found.enrol("evil", secret_of(found.join_token("evil.join", 1)))
    viewer = found.folder / "nosy.token"
    found.warren("token", "operator", "nosy", "--role", "viewer", "--out", str(viewer))
    return {
        "peer": {"name": "evil", "credential": str(found.folder / "evil.seed")},
        "viewer": {"name": "nosy", "credential": str(viewer)},
        "join": {"name": "join", "credential": str(join)},
        "unauthenticated": {"name": "unauthenticated"},
    }


async def measure(kinds: Iterable[str]) -> list[Row]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    rows: list[Row] = []
    async with bed() as found:
        held = await attacks(found)
        with sink(found) as port:
            for kind in kinds:
                later, with_attack, lost, sent = [], [], sum(agent.lost for agent in found.agents), Counter[str]()
                for _ in range(ROUNDS):
                    samples = []
                    for target in (int(found.url.port or 0), port):
                        attack = Attack(kind, found.url.hostname or "", target, found.ca_file, **held[kind])
                        async with attacking(attack) as counted:
                            samples.append(await found.percentile())
                        sent.update(counted)
                    with_attack.append(samples[0])
                    later.append(samples[0] - samples[1])
                lost = sum(agent.lost for agent in found.agents) - lost
                note = (
                    f"99th percentile of {CHANGES} changes at {HONEST} agents, later than with the same load on an unrelated server;"
                    f" median with the attack {statistics.median(with_attack):.0f} ms; sent in all: "
                    + ", ".join(f"{count} x {what}" for what, count in sorted(sent.items()))
                )
                rows.append(absolute(f"hostile_{kind}", later, "ms", better="lower", target=TARGET_MS, note=note))
                rows.append(
                    absolute(
                        f"hostile_{kind}_lost", [float(lost)], "connections", better="lower", target=0,
                        note=f"honest connections that ended during {ROUNDS} attacks",
                    )
                )  # fmt: skip
    return rows


def run() -> Iterable[Row]:
    yield from asyncio.run(measure(KINDS))


BENCHES = (
    Bench(
        tuple(name for kind in KINDS for name in (f"hostile_{kind}", f"hostile_{kind}_lost")), run, "one hostile client"
    ),
)
