"""The registry and the auth callout as processes, on a real nats-server and a real PostgreSQL, with agents that connect."""

import asyncio
import base64
import hashlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from copy import copy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.errors import BusError
from warren_bus.feed import Feed, FeedIdentity, FeedTimes
from warren_bus.publisher import EventPublisher
from warren_bus.rpc import call
from warren_bus.settings import BusSettings
from warren_contracts import subjects
from warren_contracts.commands import (
    CreateJoinToken,
    Empty,
    GetPeer,
    Health,
)
from warren_contracts.documents import (
    AnnounceReply,
    EnrolReply,
    EnrolRequest,
    SignerRole,
    TrustDocument,
)
from warren_contracts.peers import Announcement, JoinToken, JoinTokenRequest, PeerRecord, PeerSummary
from warren_contracts.policy import Policy, PolicySet, PublishedPolicy
from warren_contracts.problems import WarrenError
from warren_contracts.telemetry import Presence
from warren_testkit.bus import RealServer
from warren_testkit.bus.streams import declare_streams
from warren_testkit.postgres import PostgresServer
from warren_testkit.waiting import eventually
from warren_trust.errors import TrustError
from warren_trust.keys import KeyKind, KeyPair
from warren_trust.signing import Signer, Verifier, parse_signed, verify_trust

QUICK = FeedTimes(reconnect_jitter=0.05, resync_jitter=0.1, resync_interval=0.2, retry_first=0.1, retry_limit=1.0)
LIMIT = 60.0  # s for what takes milliseconds on a machine that is not busy
CALL_LIMIT = (
    20.0  # s for a reply of a service that runs; shorter than LIMIT, so that a lost request is repeated by `until`
)
HUB_SPOKE = Policy.model_validate(
    {"id": "branches", "topology": {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]}}
)


class Process(Protocol):
    """A service process of the tests."""

    async def start(self) -> None: ...
    async def end(self, number: signal.Signals) -> int: ...
    def text(self) -> str:
        """Its log."""
        ...


Start = Callable[[str, Mapping[str, str]], Process]  # a module and its environment; not started yet


until = partial(
    eventually,
    limit_s=LIMIT,
    ignoring=(WarrenError, BusError, TrustError, NatsError, TimeoutError),
    pause_s=0.05,
)
"""`eventually`; while something is unavailable there is no answer."""


class Agent:
    """A gateway as the bus sees it: a key, and a connection by it."""

    def __init__(self, stack: "Stack", name: str) -> None:
        self._stack = stack
        self.name = name
        self.settings, self.nkey = stack.bus.new_agent(name)
        self.connection: Connection | None = None
        self.instance = ""

    def clone(self) -> "Agent":
        """The same key on another host, which connects by itself."""
        made = copy(self)
        made.connection, made.instance = None, ""
        return made

    async def enrol(self, token: str, peer: str = "") -> EnrolReply:
        """Two phases: join by token on a connection that may do nothing else, then leave it."""
        joining = BusSettings(self.settings.servers, self.settings.nkey_file, token)
        async with (
            asyncio.timeout(LIMIT),
            Connection(joining, name="join", inbox_prefix=inbox(self.nkey)) as connection,
        ):
            client = await connection.wait_connected()
            request = EnrolRequest(peer=peer or self.name, token=token)
            return await call(client, subjects.rpc_enrol(self.nkey), request, EnrolReply, timeout=CALL_LIMIT)

    async def connect(self, host: str = "") -> Connection:
        """`host`: its name, by which the registry distinguishes hosts; none: it says nothing of its host."""
        self.instance = os.urandom(8).hex() if host else ""
        host_id = hashlib.sha256(host.encode()).hexdigest()[:16]
        name = f"agent:{self.name}:{host_id}:{self.instance}:{host}" if host else self.name
        connection = Connection(self.settings, name=name, inbox_prefix=inbox(self.name))
        self.connection = await self._stack.exits.enter_async_context(connection)
        async with asyncio.timeout(LIMIT):
            await connection.wait_connected()
        return connection

    async def feed(self, answer: EnrolReply) -> Feed:
        """The real feed of an agent, on its connection."""
        assert self.connection is not None
        trust = verify_trust(answer.root, answer.trust)
        feed = Feed(self.connection, FeedIdentity(self.name, answer.root), trust, times=QUICK)
        return await self._stack.exits.enter_async_context(feed)

    async def leave(self) -> None:
        """Close the connection for good."""
        assert self.connection is not None
        await self.connection.__aexit__(None, None, None)

    async def ask(self, verb: str, request: Any, reply: Any) -> Any:
        assert self.connection is not None
        async with asyncio.timeout(LIMIT):
            client = await self.connection.wait_connected()
        return await call(client, subjects.rpc_agent(self.name, verb), request, reply, timeout=CALL_LIMIT)

    async def announce(self, **said: Any) -> AnnounceReply:
        reply: AnnounceReply = await self.ask("announce", Announcement(**said), AnnounceReply)
        return reply

    async def beat(self, state: str = "online", **facts: Any) -> None:
        """A heartbeat; `facts` are those of its host."""
        assert self.connection is not None
        now = datetime.now(UTC)
        publisher = EventPublisher(lambda: self._client(), f"/peers/{self.name}")
        beat = Presence.model_validate(
            {
                "state": state,
                "at": now,
                "agent": "watch",
                "started_at": now,
                "instance": self.instance,
                "host": facts or None,
            }
        )
        await publisher.publish(subjects.telemetry(self.name, "presence"), "warren.telemetry.presence.v1", beat)

    def _client(self) -> Any:
        assert self.connection is not None
        return self.connection.client


class Stack:
    """nats-server, PostgreSQL, callout and registry, and the connections of a test."""

    def __init__(self, bus: RealServer, database: PostgresServer, start: Start, exits: AsyncExitStack) -> None:
        self.bus = bus
        self.database = database
        self.exits = exits
        keys = bus.folder / "keys"
        shared = {
            "WARREN_POSTGRES_DSN": database.dsn(), "WARREN_NATS_URL": bus.url, "WARREN_LOG_FORMAT": "json",
            "WARREN_LOG_LEVEL": "debug", "WARREN_CALLER_KEYS": bus.caller_keys,
        }  # fmt: skip
        self.registry = start(
            "warren_registry",
            {
                **shared, "WARREN_NKEY_FILE": str(keys / "registry.seed"),
                "WARREN_SIGNING_KEY_FILE": str(keys / "registry-signing.seed"), "WARREN_ROOT_KEY_FILE": str(keys / "root.seed"),
                "WARREN_POLICY_PUBLIC_KEY": bus.public_keys["policy-signing"],
            },
        )  # fmt: skip
        self.callout = start(
            "warren_callout",
            {
                **shared, "WARREN_NKEY_FILE": str(keys / "callout.seed"),
                "WARREN_ISSUER_KEY_FILE": str(keys / "issuer.seed"),
            },
        )  # fmt: skip
        self.api: Connection
        self.policy: Connection
        self.reader: Connection  # the registry's own user may read its stream back: tests look through it
        self._revision = 0

    async def start(self) -> None:
        await self.registry.start()
        await self.callout.start()
        self.api = await self.service("api")
        self.policy = await self.service("policy")
        self.reader = await self.service("registry")
        await self.declare_streams()
        await self.ready()
        await until(self.callout_listens, what="the callout")

    async def service(self, name: str) -> Connection:
        connection = Connection(self.bus.settings(name), name=f"test-{name}", inbox_prefix=inbox(name))
        await self.exits.enter_async_context(connection)
        await connection.wait_connected()
        return connection

    async def declare_streams(self) -> None:
        """What the stream keeper does."""
        await declare_streams(self.bus)

    async def ready(self) -> None:
        await until(self.is_ready, what=f"readiness ({self.registry.text()[-3000:]})")

    async def callout_listens(self, times: int = 1) -> bool:
        return self.callout.text().count("callout.listening") >= times

    async def is_ready(self) -> bool:
        health = await self.health()
        return bool(health.ready)

    async def health(self) -> Any:
        return await self.ask("health", Empty(), Health)

    async def ask(self, verb: str, request: Any, reply: Any) -> Any:
        return await call(self.api.client, subjects.rpc("registry", verb), request, reply, timeout=CALL_LIMIT)

    async def join_token(self, *tags: str, uses: int = 1, **wish: Any) -> str:
        command = CreateJoinToken(request=JoinTokenRequest(tags=tags, uses=uses, **wish), actor="ann")
        token: JoinToken = await self.ask("create_join_token", command, JoinToken)
        return token.token

    async def agent(self, name: str, *tags: str, **said: Any) -> Agent:
        """An enrolled, connected agent that has announced itself."""
        agent = Agent(self, name)
        await agent.enrol(await self.join_token(*tags))
        await agent.connect()
        await agent.announce(**said)
        return agent

    async def peer(self, name: str) -> PeerSummary:
        found: PeerSummary = await self.ask("peer", GetPeer(peer=name), PeerSummary)
        return found

    async def publish_policies(self, readers: tuple[str, ...], *policies: Policy) -> None:
        """As the policy service would: a signed set for each reader, in one revision."""
        self._revision += 1
        signer = Signer(self.bus.key("policy-signing", KeyKind.SIGNING), SignerRole.POLICY)
        published = tuple(PublishedPolicy(revision=self._revision, policy=policy) for policy in policies)
        for reader in readers:
            document = PolicySet(reader=reader, epoch=1, revision=self._revision, batch=readers, policies=published)
            subject, payload = subjects.policy(reader), document.model_dump_json().encode()
            headers = signer.headers(subject, 1, self._revision, payload)
            await self.policy.client.jetstream().publish(subject, payload, headers=headers)

    async def stored(self, reader: str, peer: str) -> PeerRecord | None:
        """The verified record that the stream holds."""
        js = self.reader.client.jetstream()
        message = await js.get_last_msg("DIRECTORY", subjects.directory(reader, peer), direct=True)
        subject = subjects.directory(reader, peer)
        signed = parse_signed(subject, message.headers, message.data or b"")
        self.verifier().verify(signed)
        return PeerRecord.model_validate_json(signed.payload)

    def verifier(self) -> Verifier:
        keys = self.bus.public_keys
        return Verifier(
            TrustDocument(epoch=1, revision=1, policy=keys["policy-signing"], registry=keys["registry-signing"])
        )


async def refused(settings: BusSettings, token: str = "") -> bool:
    """Whether the server refuses a connection by this key, properly signed."""
    answer = await raw_connect(int(settings.servers[0].rsplit(":", 1)[1]), {"auth_token": token}, sign=settings.key())
    return answer == "Authorization Violation"


async def raw_connect(port: int, options: dict[str, Any], sign: KeyPair | None = None) -> str:
    """Say CONNECT with exactly these options: what the server answers. Raw base64url, as Go's client signs.

    Repeated while the server ends the connection because a busy callout has decided nothing in time.
    """
    async with asyncio.timeout(LIMIT):
        while (answer := await _raw_connect(port, options, sign)) == "Authentication Timeout":
            pass
    return answer


async def _raw_connect(port: int, options: dict[str, Any], sign: KeyPair | None) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        info = json.loads((await reader.readline()).removeprefix(b"INFO "))
        if sign is not None:
            signature = base64.urlsafe_b64encode(sign.sign(info["nonce"].encode())).rstrip(b"=").decode()
            options = {"nkey": sign.public, "sig": signature, **options}
        connect = {"verbose": False, "pedantic": False, "lang": "raw", "version": "1", "protocol": 1, **options}
        writer.write(b"CONNECT " + json.dumps(connect).encode() + b"\r\nPING\r\n")
        while line := (await reader.readline()).strip():
            if line == b"PONG":
                return "ok"
            if line.startswith(b"-ERR"):
                return line.decode().split("'")[1]
    finally:
        writer.close()
    return "closed"


async def last_event(stack: Stack, name: str) -> dict[str, Any] | None:
    """The newest event on a subject, as an operator would see it (the gateway reads by consumers of its own)."""
    js = stack.api.client.jetstream()
    config = ConsumerConfig(name=uuid4().hex, filter_subject=f"warren.v1.event.{name}", inactive_threshold=5.0)
    await js.add_consumer("EVENT", config)
    subscription = await js.pull_subscribe_bind(consumer=config.name, stream="EVENT")
    try:
        messages = await subscription.fetch(100, timeout=1.0)
        return dict(json.loads(messages[-1].data))
    finally:
        await subscription.unsubscribe()


def seeds(folder: Path) -> list[tuple[Path, KeyKind]]:
    kinds = {"issuer": KeyKind.ACCOUNT, "root": KeyKind.SIGNING, "registry-signing": KeyKind.SIGNING}
    return [
        (path, kinds.get(path.stem, KeyKind.USER)) for path in folder.glob("*.seed") if path.stem != "policy-signing"
    ]
