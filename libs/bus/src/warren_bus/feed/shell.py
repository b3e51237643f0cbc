"""The feed on a connection: executes the machine's commands and passes it what arrives. It makes no decision."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import SystemRandom
from types import TracebackType

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError

from warren_bus import client_subjects, rpc
from warren_bus.connect_backoff import Uniform
from warren_bus.connection import Connection
from warren_bus.errors import NotConnectedError
from warren_bus.feed.commands import (
    Command,
    GetPolicySet,
    GetSecret,
    Request,
    RequestPage,
    RequestWhoami,
    Subscribe,
    Unsubscribe,
)
from warren_bus.feed.machine import FeedMachine
from warren_bus.feed.state import FeedIdentity, FeedState, StateCause
from warren_bus.feed.times import FeedTimes
from warren_bus.headers import header
from warren_contracts import subjects
from warren_contracts.cloudevents import HEADER_TRACEPARENT
from warren_contracts.documents import DirectoryPageRequest, TrustDocument
from warren_contracts.problems import WarrenError
from warren_process.background import BackgroundTasks

log = structlog.get_logger("warren_bus")

RPC_TIMEOUT = 5.0  # s
GET_TIMEOUT = 3.0  # s; a Direct Get that is not granted gets no reply
PENDING_MESSAGES = 4_096  # of one subscription; nats-py drops more and reports it
PENDING_BYTES = 16 * 1024 * 1024
BATCH_SIZE = 32  # live messages that are verified at once: some 5 ms, then other tasks run

_REFUSED_SUBSCRIPTION = re.compile(r'permissions violation for subscription to "([^"]+)"')


@dataclass(frozen=True, slots=True)
class DocumentArrival:
    """When a live document arrived, and the trace that it belongs to."""

    arrived_at: datetime
    traceparent: str


class Feed:
    """`async with Feed(...) as feed:` and then `async for state in feed`: the newest complete state whenever it has changed.

    A slow reader sees the newest state only. `saved` is the state that the agent stored on disk.
    """

    def __init__(
        self,
        connection: Connection,
        identity: FeedIdentity,
        trust: TrustDocument,
        *,
        saved: FeedState | None = None,
        times: FeedTimes | None = None,
        rng: Uniform | None = None,
    ) -> None:
        self._connection = connection
        self._identity = identity
        self.machine = FeedMachine(identity, trust, rng or SystemRandom(), saved, times)
        self.state = saved
        self.latest: DocumentArrival | None = None  # of the document that made `state`; None when a snapshot did
        self._client: Client | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._requests = BackgroundTasks()
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._pump_soon: asyncio.Handle | None = None
        self._pump_later: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None
        self._closed = False

    @property
    def counters(self) -> Counter[str]:
        """Refused, missed and repeated documents and requests, by name."""
        return self.machine.counters

    async def __aenter__(self) -> "Feed":
        self._worker = asyncio.create_task(self._work(), name=f"feed:{self._identity.peer}")
        self._connection.on_disconnected(self._disconnected)
        self._connection.on_error(self._client_error)
        self._connection.on_connected(self._connected)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for handle in (self._pump_soon, self._pump_later):
            if handle is not None:
                handle.cancel()
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        await self._requests.close()
        for subscription in self._subscriptions.values():
            with suppress(NatsError):
                await subscription.unsubscribe()
        self._subscriptions.clear()

    async def __aiter__(self) -> AsyncIterator[FeedState]:
        if self._worker is None:
            raise NotConnectedError("the feed was not started: use `async with`")
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            if self.state is not None:
                yield self.state

    # -- inputs ------------------------------------------------------------------------------------------------------

    async def _connected(self) -> None:
        client = self._connection.client
        fresh = client is not self._client
        if fresh:
            self._client = client
            self._subscriptions.clear()
        self.machine.connected(time.monotonic(), fresh=fresh)
        self._schedule()

    def _disconnected(self) -> None:
        self.machine.disconnected(time.monotonic())
        self._schedule()

    def _client_error(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            self.machine.counters["slow-consumer"] += 1
            self.machine.request_resync(time.monotonic())
        elif refused := _REFUSED_SUBSCRIPTION.search(str(error)):
            named = refused.group(1).lower()  # nats-py changes the case
            subject = next((own for own in self._subscriptions if own.lower() == named), named)
            self.machine.subscription_refused(subject, time.monotonic())
        self._schedule()

    async def _live(self, message: Msg) -> None:
        if self._enqueue(message):
            self._schedule()

    def _enqueue(self, message: Msg) -> bool:
        """Queue a live message for verification; False if it was refused or the queue is full."""
        return self.machine.enqueue_live(message.subject, message.headers, message.data, time.monotonic())

    # -- outputs -----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Run the machine in the next iteration of the loop: a callback, since a task switch costs more than the work."""
        if self._pump_soon is None and not self._closed:
            self._pump_soon = asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_soon = None
        if self._closed:
            return
        try:
            more = self._run_machine(time.monotonic())
        except Exception as error:  # noqa: BLE001 - a callback has no caller: the reader of the feed gets the error
            self._failure = error
            self._changed.set()
            return
        if more:
            self._schedule()
        else:
            self._set_timer()

    def _run_machine(self, now: float) -> bool:
        self.machine.handle_timer(now)
        more = self.machine.verify_queued(now, BATCH_SIZE)
        for command in self.machine.commands():
            self._commands.put_nowait(command)
        if (state := self.machine.next_event()) is not None:
            self.state = state
            self.latest = _arrival(self.machine.cause, now)
            self._changed.set()
        return more

    def _set_timer(self) -> None:
        if self._pump_later is not None:
            self._pump_later.cancel()
            self._pump_later = None
        due = self.machine.get_timer()
        if due is not None:
            loop = asyncio.get_running_loop()
            self._pump_later = loop.call_later(max(0.0, due - time.monotonic()), self._pump)

    async def _work(self) -> None:
        """Execute commands in their order: subscriptions must be made before the snapshot is requested."""
        while True:
            command = await self._commands.get()
            try:
                await self._execute(command)
            except (
                NatsError,
                OSError,
            ) as error:  # the connection ended meanwhile: the next connect starts a new synchronisation
                log.info(
                    "feed.command_failed", peer=self._identity.peer, command=type(command).__name__, error=str(error)
                )

    async def _execute(self, command: Command) -> None:
        client = self._client
        if client is None:
            return
        match command:
            case Subscribe(subject):
                self._subscriptions[subject] = await client.subscribe(
                    subject, cb=self._live, pending_msgs_limit=PENDING_MESSAGES, pending_bytes_limit=PENDING_BYTES
                )
            case Unsubscribe(subject):
                if (subscription := self._subscriptions.pop(subject, None)) is not None:
                    await subscription.unsubscribe()
            case _:
                self._requests.spawn(self._send_request(client, command))

    async def _send_request(self, client: Client, request: Request) -> None:
        try:
            reply = await self._exchange(client, request)
        except (NatsError, WarrenError, NotConnectedError, TimeoutError, OSError) as error:
            log.info("feed.no_reply", peer=self._identity.peer, request=type(request).__name__, error=str(error))
            self.machine.request_failed(request, time.monotonic())
        else:
            self.machine.receive_reply(request, reply.headers, reply.data, time.monotonic())
        self._schedule()

    async def _exchange(self, client: Client, request: Request) -> Msg:
        peer = self._identity.peer
        match request:
            case RequestWhoami():
                return await rpc.exchange(client, subjects.rpc_agent(peer, "whoami"), b"{}", RPC_TIMEOUT)
            case RequestPage(_, reader, after):
                body = DirectoryPageRequest(reader=reader, after=after).model_dump_json().encode()
                return await rpc.exchange(client, subjects.rpc_agent(peer, "directory"), body, RPC_TIMEOUT)
            case GetPolicySet(_, reader):
                return await client.request(client_subjects.policy_get(reader), b"", timeout=GET_TIMEOUT)
            case GetSecret():
                return await client.request(client_subjects.secret_get(peer), b"", timeout=GET_TIMEOUT)


def _arrival(cause: StateCause | None, now: float) -> DocumentArrival | None:
    if cause is None:
        return None
    return DocumentArrival(
        datetime.now(UTC) - timedelta(seconds=now - cause.arrived_at), header(cause.headers, HEADER_TRACEPARENT)
    )
