"""One hostile client: `python hostile_attacker.py` reads its task as one JSON line, attacks until its standard input ends.

The rates are fixed, so that the same load can go to a server of ours or, to compare, to an unrelated one (`hostile_sink.py`).
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nats
import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from warren_bus.client_subjects import inbox, policy_get
from warren_contracts import subjects
from warren_trust.keys import KeyKind, KeyPair

TICK_S = 0.02
CALLS = 4_000  # a second, of an enrolled peer or a viewer: 400 times what its budget allows
BULK = 50  # a second, of 64 kB: what a peer may store until its stream is full, and large requests
CONNECTIONS = 40  # a second, of an unauthenticated client; of the holder of a join token, who keeps them open
KEPT = 300  # connections that a holder of a join token keeps trying to hold


@dataclass(frozen=True, slots=True)
class Attack:
    """Who attacks, and which server. `credential`: the file of a seed or of a token."""

    kind: str
    host: str
    port: int
    ca_file: str
    name: str = ""
    credential: str = ""

    @property
    def url(self) -> str:
        return f"tls://{self.host}:{self.port}"

    @property
    def secret(self) -> str:
        return Path(self.credential).read_text().strip()

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)

    async def connect(self, **credential: str) -> Client:
        return await nats.connect(
            self.url, name=self.name, tls=self.context(), tls_handshake_first=True, allow_reconnect=True, max_reconnect_attempts=-1,
            reconnect_time_wait=0.5, error_cb=_ignore, pending_size=64 << 20, **credential,
        )  # fmt: skip


async def _ignore(_: Exception) -> None:
    """The attacker does not care why it was refused."""


done: Counter[str] = Counter()  # what the attacker has sent


async def paced(rate: float, act: Callable[[int], Awaitable[None]]) -> None:
    """Act so many times a second, in bursts of a tick."""
    loop, acted, start = asyncio.get_running_loop(), 0, asyncio.get_running_loop().time()
    while True:
        due = int((loop.time() - start) * rate)
        for number in range(acted, due):
            with suppress(NatsError, OSError, TimeoutError):
                await act(number)
                done[act.__name__] += 1
        acted = due
        await asyncio.sleep(TICK_S)


async def peer(attack: Attack) -> None:
    """An enrolled peer: calls, Direct Gets, reports and announcements, with replies to where others listen."""
    client = await attack.connect(nkeys_seed_str=attack.secret, inbox_prefix=inbox(attack.name))
    box = f"{inbox(attack.name)}.flood"
    await client.subscribe(box)
    replies = (box, subjects.live(subjects.policy("all")))
    bulk = json.dumps({"key": "x" * 60_000}).encode()

    async def call(number: int) -> None:
        subject = subjects.rpc_agent(attack.name, "whoami") if number % 4 else policy_get("all")
        await client.publish(subject, b"{}", reply=replies[number % 8 == 0])

    async def store(number: int) -> None:
        subject = (
            subjects.telemetry(attack.name, "report") if number % 2 else subjects.rpc_agent(attack.name, "announce")
        )
        await client.publish(subject, bulk, reply=box)

    print("ready", flush=True)
    await asyncio.gather(paced(CALLS, call), paced(BULK, store))


async def viewer(attack: Attack) -> None:
    """A viewer: every call that it may make, and large ones."""
    box = f"_INBOX.op.{attack.name}"
    client = await attack.connect(token=attack.secret, inbox_prefix=box)
    await client.subscribe(f"{box}.flood")
    verbs = (
        ("policy", "list"),
        ("policy", "events"),
        ("metrics", "tunnels"),
        ("registry", "peers"),
        ("registry", "trust"),
    )
    bulk = json.dumps({f"key{number}": 0 for number in range(4_000)}).encode()

    async def call(number: int) -> None:
        await client.publish(subjects.rpc(*verbs[number % len(verbs)]), b"{}", reply=f"{box}.flood")

    async def large(number: int) -> None:
        await client.publish(subjects.rpc(*verbs[number % len(verbs)]), bulk, reply=f"{box}.flood")

    print("ready", flush=True)
    await asyncio.gather(paced(CALLS, call), paced(BULK, large))


async def join(attack: Attack) -> None:
    """The holder of a join token: as many connections as it gets, each with a key of its own."""
    kept: list[Client] = []

    async def connect(_: int) -> None:
        seed = KeyPair.generate(KeyKind.USER).seed
        client = await nats.connect(
            attack.url, tls=attack.context(), tls_handshake_first=True, nkeys_seed_str=seed, token=attack.secret, allow_reconnect=False,
            error_cb=_ignore, connect_timeout=5,
        )  # fmt: skip
        kept.append(client)
        if len(kept) > KEPT:
            await kept.pop(0).close()

    async def one(number: int) -> None:
        task = asyncio.create_task(_quietly(connect(number)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    tasks: set[asyncio.Task[None]] = set()
    print("ready", flush=True)
    await paced(CONNECTIONS, one)


async def _quietly(connecting: Awaitable[None]) -> None:
    with suppress(NatsError, OSError, TimeoutError, asyncio.CancelledError):
        await connecting


async def unauthenticated(attack: Attack) -> None:
    """No credential: handshakes, wrong signatures, unknown keys."""
    context = attack.context()

    async def attempt() -> None:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(
                attack.host, attack.port, ssl=context, server_hostname=attack.host
            )
            try:
                await reader.readline()
                command = {
                    "nkey": KeyPair.generate(KeyKind.USER).public, "sig": base64.urlsafe_b64encode(os.urandom(64)).decode(),
                    "lang": "python3", "version": "2", "protocol": 1, "name": "unauthenticated",
                }  # fmt: skip
                writer.write(b"CONNECT " + json.dumps(command).encode() + b"\r\nPING\r\n")
                await reader.read()
            finally:
                writer.transport.abort()

    async def one(_: int) -> None:
        task = asyncio.create_task(_quietly(attempt()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    tasks: set[asyncio.Task[None]] = set()
    print("ready", flush=True)
    await paced(CONNECTIONS, one)


KINDS = {"peer": peer, "viewer": viewer, "join": join, "unauthenticated": unauthenticated}


async def main() -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    attack = Attack(**json.loads(await lines.readline()))
    attacking = asyncio.create_task(KINDS[attack.kind](attack))
    ended = asyncio.create_task(lines.read())
    await asyncio.wait({attacking, ended}, return_when=asyncio.FIRST_COMPLETED)
    if attacking.done():
        attacking.result()
    print(json.dumps(done), flush=True)
    os._exit(0)  # its connections need no farewell


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each TLS connection that nats-py ends
    asyncio.run(main())
