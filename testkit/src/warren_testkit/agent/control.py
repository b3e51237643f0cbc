"""The smallest control plane on a real bus: registry and policy in one, whose truth is a signed Fleet.

Every peer reads the directory of the reader `all` alone. What agents report is stored, and can be waited for.
"""

import asyncio
import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from pydantic import BaseModel

from warren_bus.client_subjects import inbox
from warren_bus.tls import ClientTls
from warren_contracts.documents import AnnounceReply, DirectoryPageRequest, EnrolReply, EnrolRequest
from warren_contracts.peers import Announcement, PeerRecord
from warren_contracts.policy import Policy, PolicySet, PublishedPolicy
from warren_contracts.subjects import Audience
from warren_contracts.telemetry import Applied, AttemptFailure, Presence, Report, TunnelChange
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.bus.fleet import Fleet, SignedBytes
from warren_testkit.bus.streams import declare_streams

MODELS: dict[str, type[BaseModel]] = {
    "presence": Presence, "report": Report, "tunnel": TunnelChange, "applied": Applied, "reason": AttemptFailure,
}  # fmt: skip

STREAM_TIMEOUT = 60.0  # s

ReportT = TypeVar("ReportT", bound=BaseModel)


class Control:
    """Serves enrolment, whoami, announcements and the directory, publishes policies, and listens to telemetry.

    A peer named `hub` gets the tag `hub`, every other one the tag `branch`, and all the tag `site`.
    """

    def __init__(self, server: RealServer, callout: GrantingCallout) -> None:
        self.server, self.callout = server, callout
        self.fleet = Fleet()
        self.announced: list[tuple[str, Announcement]] = []  # with the peers that sent them
        self._received: list[tuple[str, BaseModel]] = []
        self._more = asyncio.Event()
        self._clients: dict[str, Client] = {}
        self._reader: asyncio.Task[None] | None = None

    @property
    def root(self) -> bytes:
        """The trust root's public key."""
        return base64.b64decode(self.fleet.identity("any").root)

    @property
    def records(self) -> dict[str, PeerRecord]:
        """The directory."""
        return self.fleet.records.setdefault("all", {})

    async def __aenter__(self) -> "Control":
        ca_file = self.server.ca_file
        for name in ("registry", "policy", "metrics"):
            self._clients[name] = await nats.connect(
                self.server.url,
                nkeys_seed_str=self.server.settings(name).key().seed,
                inbox_prefix=inbox(name),
                connect_timeout=60,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0,
                tls=ClientTls(ca_file).context() if ca_file else None,
                tls_handshake_first=ca_file is not None,
            )
        await declare_streams(self.server)
        registry = self._clients["registry"]
        await registry.subscribe("warren.v1.rpc.agent.*.*", cb=self._agent_rpc)
        await registry.subscribe("warren.v1.rpc.enrol.*", cb=self._enrol)
        self._reader = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.cancel()
        for client in self._clients.values():
            await client.close()

    async def _enrol(self, message: Msg) -> None:
        request = EnrolRequest.model_validate_json(message.data)
        tags = ("hub" if request.peer == "hub" else "branch", "site")
        self.callout.enrol(message.subject.rsplit(".", 1)[-1], request.peer, tags)
        self.fleet.enrol(request.peer, *tags)
        reply = EnrolReply(
            peer=request.peer,
            tags=tags,
            epoch=self.fleet.epoch,
            root=self.fleet.identity(request.peer).root,
            trust=self.fleet.trust_document(),
            enrolled_at=datetime.now(UTC),
        )
        await self._clients["registry"].publish(message.reply, reply.model_dump_json().encode())

    async def _agent_rpc(self, message: Msg) -> None:
        peer, verb = message.subject.split(".")[4:6]
        registry = self._clients["registry"]
        if verb == "announce":
            await self._announce(peer, Announcement.model_validate_json(message.data))
            reply = AnnounceReply(revision=self.fleet.revision, changed=True)
            await registry.publish(message.reply, reply.model_dump_json().encode())
            return
        page = DirectoryPageRequest.model_validate_json(message.data) if verb == "directory" else None
        answer = self.fleet.whoami(peer) if page is None else self.fleet.page(peer, page)
        await registry.publish(message.reply, answer.payload, headers=answer.headers)

    async def _announce(self, peer: str, said: Announcement) -> None:
        self.announced.append((peer, said))
        record = PeerRecord(
            peer=peer,
            epoch=self.fleet.epoch,
            revision=0,
            tags=self.fleet.tags[peer],
            endpoints=said.endpoints,
            subnets=said.subnets,
            echo_addresses=said.echo_addresses,
            identity=peer,
            keys=said.keys,
            drivers=said.drivers,
        )
        await self.put_records([record])

    async def put_records(self, records: Iterable[PeerRecord]) -> None:
        """New or changed peers, also such as have no agent here."""
        for record in records:
            self.records[record.peer] = record.model_copy(update={"revision": self.fleet.next_revision()})
            await self._store("registry", self.fleet.signed_record("all", record.peer))

    async def publish(self, *policies: Policy) -> None:
        """These policies, and no others, for everybody."""
        await self.publish_sets({"all": policies})

    async def publish_sets(self, sets: Mapping[Audience, Sequence[Policy]]) -> int:
        """These sets in one batch, stored one after the other in this order; returns the revision."""
        revision = self.fleet.next_revision()
        for reader, policies in sets.items():
            published = tuple(PublishedPolicy(revision=revision, policy=policy) for policy in policies)
            self.fleet.sets[reader] = PolicySet(
                reader=reader, epoch=self.fleet.epoch, revision=revision, batch=tuple(sets), policies=published
            )
        for reader in sets:
            await self._store("policy", self.fleet.signed_set(reader))
        return revision

    async def _store(self, service: str, message: SignedBytes) -> None:
        stream = self._clients[service].jetstream(timeout=STREAM_TIMEOUT)
        await stream.publish(message.subject, message.payload, headers=message.headers)

    # what agents report

    async def _listen(self) -> None:
        stream = self._clients["metrics"].jetstream(timeout=STREAM_TIMEOUT)
        async with asyncio.TaskGroup() as group:
            for name, durable in (("TELEMETRY", "metrics"), ("PRESENCE", "metrics-presence")):
                consumer = await stream.pull_subscribe("warren.v1.telemetry.>", durable=durable, stream=name)
                group.create_task(self._take(consumer))

    async def _take(self, consumer: JetStreamContext.PullSubscription) -> None:
        while True:
            try:
                for message in await consumer.fetch(50, timeout=1):
                    peer, kind = message.subject.split(".")[3:5]
                    self._received.append((peer, MODELS[kind].model_validate_json(message.data)))
                    await message.ack()
            except (NatsError, TimeoutError):
                await asyncio.sleep(0.05)  # nothing came, or the server is unavailable
            self._more.set()

    @property
    def count(self) -> int:
        """How much was received so far: what comes later has a higher index."""
        return len(self._received)

    def all(self, model: type[ReportT], since: int = 0) -> list[ReportT]:
        """Everything of one kind."""
        return [it for _, it in self._received[since:] if isinstance(it, model)]

    async def received(
        self, model: type[ReportT], peer: str, wanted: Callable[[ReportT], object], since: int = 0, within: float = 90.0
    ) -> ReportT:
        """The first message of a peer for which `wanted` holds; TimeoutError after `within` seconds."""
        async with asyncio.timeout(within):
            while True:
                for sender, it in self._received[since:]:
                    if sender == peer and isinstance(it, model) and wanted(it):
                        return it
                await self.more()

    async def more(self) -> None:
        """Wait for whatever is received next."""
        self._more.clear()
        await self._more.wait()
