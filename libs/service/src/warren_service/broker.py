"""The bus side of every service: a FastStream broker, RPC errors as Problems, and a watchdog.

FastStream 0.7.8 has faults that are corrected here (docs/bus.md): its pull loop blocks the event loop once the client is closed,
and does not detect that its consumer was deleted; it ends at a pull that timed out, and loses the messages of that batch; a
handler's error leaves the caller without a reply.
"""

import asyncio
import math
import os
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog
from fast_depends.exceptions import ValidationError as ArgumentError
from fast_depends.pydantic import PydanticSerializer
from faststream import AckPolicy, BaseMiddleware, FastStream
from faststream.nats import NatsBroker, NatsResponse, PullSub
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from opentelemetry.trace import SpanKind, Tracer
from pydantic import BaseModel, ValidationError

from warren_bus.client_subjects import inbox
from warren_bus.dial import Callbacks, Dialer
from warren_bus.headers import header
from warren_bus.service_calls import HEADER_DEADLINE, is_service_call
from warren_bus.settings import BusSettings
from warren_bus.tracing import HEADER, current, outgoing
from warren_contracts import subjects
from warren_contracts.cloudevents import CONTENT_JSON
from warren_contracts.problems import CONTENT_TYPE, InvalidInputError, UnavailableError, WarrenError, invalid_input
from warren_service.call_gate import CallGate, is_call
from warren_service.callers import require_operator
from warren_service.otel import build_tracer, span
from warren_service.pull import PacedPull
from warren_service.service_callers import ServiceCallers

log = structlog.get_logger("warren_bus")

EXIT_CLOSED = 75  # EX_TEMPFAIL of sysexits.h: the supervisor restarts the process
WATCH_INTERVAL = 0.5  # s between two checks of the client
CONSUMER_INTERVAL = 10.0  # s between two checks of the consumers
RECONNECT_POLL = 0.1  # s between two checks of a pull subscriber whether the server has returned

# s after which the caller of a request without a deadline has given up: the longest time-out of an agent's call
STALE_AFTER = 15.0

Fetch = Callable[..., Coroutine[Any, Any, list[Msg]]]


@dataclass
class ArrivedMsg(Msg):
    """A message that knows when it was read from the socket: a queue of requests may be long."""

    arrived_at: float = field(default_factory=time.monotonic)


class Broker(NatsBroker):
    """FastStream's broker on a client of `Dialer`: endless jittered reconnects, never a half-connected client."""

    def __init__(self, settings: BusSettings, name: str, tracer: Tracer) -> None:
        self.service = name
        self.tracer = tracer
        self._dialer = Dialer(settings, name, inbox(name))
        self.callers = ServiceCallers(settings.caller_keys)
        self.stopping = False
        super().__init__(
            list(settings.servers),
            name=name,
            inbox_prefix=inbox(name),
            ack_policy=AckPolicy.NACK_ON_ERROR,  # the default drops a message at the first error
            middlewares=[self._middleware],
            serializer=PydanticSerializer(
                use_fastdepends_errors=True
            ),  # distinguishes an invalid request from a failed handler
            logger=None,
            graceful_timeout=10.0,
        )

    def _middleware(self, message: Any, /, *, context: Any) -> "RpcMiddleware":
        return RpcMiddleware(message, context=context, broker=self)

    async def _connect(self) -> Client:
        client = await self._dialer.dial(Callbacks(self._lost, self._back, self._ended, self._failed))
        client.gate = CallGate(client).admits
        client.msg_class = ArrivedMsg
        self.config.connect(client)
        return client

    @property
    def client(self) -> Client:
        """The nats-py client, for what FastStream does not cover (Direct Get, batches, streams)."""
        if self._connection is None:
            raise NatsError("nats: not connected yet")
        return self._connection

    async def start(self) -> None:
        """Start, and correct FastStream's pull subscribers.

        Their default inbox is not granted to our users; `_guard_pull` says what is wrong with their pulls.
        """
        for subscriber in self.subscribers:
            options = getattr(subscriber, "extra_options", {})
            if "inbox_prefix" in options:
                options["inbox_prefix"] = f"{inbox(self.service)}.".encode()
        await super().start()
        for subscriber in self.subscribers:
            pull = getattr(subscriber, "subscription", None)
            if isinstance(pull, JetStreamContext.PullSubscription):
                settings: PullSub = subscriber.pull_sub  # type: ignore[attr-defined]  # it has a pull subscription
                paced = PacedPull(pull, settings.batch_size)
                pull.fetch = self._guard_pull(paced.fetch)  # type: ignore[method-assign]  # there is no hook

    def _guard_pull(self, fetch: Fetch) -> Fetch:
        """A pull whose failures are always the error that FastStream expects of an empty one.

        While the server is unavailable it sends nothing: each pull would wait in the client's buffer until that is full, and after
        that the loop would spin. And a builtin TimeoutError would end FastStream's task, and lose the messages of earlier pulls of the
        same batch, until the server redelivers them ACK_WAIT later.
        """

        async def guarded(*arguments: Any, **options: Any) -> list[Msg]:
            if not self.client.is_connected:
                await asyncio.sleep(RECONNECT_POLL)
                raise NatsTimeout
            try:
                return await fetch(*arguments, **options)
            except (NatsTimeout, ConnectionClosedError):
                raise  # FastStream handles them
            except TimeoutError as error:
                raise NatsTimeout from error
            except (NatsError, OSError) as error:
                await asyncio.sleep(RECONNECT_POLL)  # it may have been raised at once, and will be again
                raise NatsTimeout from error

        return guarded

    async def stop(self, *args: Any, **kwargs: Any) -> None:
        self.stopping = True
        try:
            await super().stop(*args, **kwargs)
        except NatsError as error:  # nothing can be drained while the server is unavailable
            log.info("bus.stopped_while_unreachable", client=self.service, error=str(error))
            if self._connection is not None:
                await self._connection.close()

    async def _lost(self) -> None:
        log.info("bus.disconnected", client=self.service)

    async def _back(self) -> None:
        log.info("bus.connected", client=self.service)

    async def _ended(self) -> None:
        log.info("bus.closed", client=self.service, stopping=self.stopping)

    async def _failed(self, error: Exception) -> None:
        log.info("bus.error", client=self.service, error=str(error) or type(error).__name__)


class RpcMiddleware(BaseMiddleware[Any, Any]):
    """One span and one trace id for each message; errors of a request become a Problem reply."""

    def __init__(self, msg: Any, /, *, context: Any, broker: Broker) -> None:
        super().__init__(msg, context=context)
        self._broker = broker

    async def consume_scope(self, call_next: Any, msg: Any) -> Any:
        raw = msg.raw_message
        subject = raw[0].subject if isinstance(raw, list) else raw.subject
        name, about = (
            f"process {subjects.template(subject)}",
            {**_SYSTEM, "messaging.destination.template": subjects.template(subject)},
        )
        with span(self._broker.tracer, name, msg.headers, kind=SpanKind.CONSUMER, attributes=about):
            if not is_call(subject):
                # An event's reply subject is for the acknowledgement of its stream: a reply of ours would be taken for it.
                msg.reply_to = ""
                return await call_next(msg)
            if not self._is_request():  # nobody would receive the reply, or a stream would
                log.warning("rpc.refused", subject=subjects.template(subject), error="no reply subject of a caller")
                return None
            try:
                self._authenticate(subject, msg)
                _refuse_late(msg)
                await _decoded(msg)
                return await call_next(msg)
            except Exception as error:  # noqa: BLE001 - the caller gets a reply in any case
                return problem_response(_as_warren_error(error))

    def _authenticate(self, subject: str, msg: Any) -> None:
        """Refuse a call on a service's subject that no service has signed, and one on an operators' subject that the server does
        not ascribe to an operator. Raises ForbiddenError. Calls of agents are verified by their handlers."""
        try:
            if is_service_call(subject):
                self._broker.callers.verify(subject, msg.headers, msg.body)
            elif subject.startswith(_OPS):
                require_operator(msg.headers)
        except WarrenError as error:
            log.warning("rpc.refused", subject=subjects.template(subject), error=str(error))
            raise

    async def publish_scope(self, call_next: Any, cmd: Any) -> Any:
        cmd.add_headers({HEADER: outgoing()}, override=False)
        return await call_next(cmd)

    def _is_request(self) -> bool:
        reply = getattr(self.msg, "reply", "")
        return bool(reply) and not reply.startswith("$JS.")  # those are acknowledgements of a stream


_SYSTEM = {"messaging.system": "nats", "messaging.operation.type": "process"}
_OPS = f"{subjects.VERSION}.ops."


class DeadlineExceededError(UnavailableError):
    """The call timed out at its caller and was not executed: repeat it; if all are too late, compare the hosts' clocks."""

    code = "too-late"


def _refuse_late(msg: Any) -> None:
    """Refuse what its caller no longer waits for, by its deadline or because it waited in our queue for so long."""
    if time.monotonic() - getattr(msg.raw_message, "arrived_at", math.inf) > STALE_AFTER:
        raise DeadlineExceededError
    deadline = header(msg.headers, HEADER_DEADLINE)
    if re.fullmatch("[0-9]{1,15}", deadline) and (late := time.time() * 1_000 - int(deadline)) > 0:
        log.warning("rpc.too_late", by_ms=round(late))
        raise DeadlineExceededError


async def _decoded(msg: Any) -> None:
    """Decode now (the result is cached), so that invalid JSON is the caller's error and not ours."""
    try:
        await msg.decode()
    except (ValueError, RecursionError):
        raise InvalidInputError("the request is not JSON") from None


def _as_warren_error(error: Exception) -> WarrenError:
    if isinstance(error, WarrenError):
        return error
    if isinstance(error, ArgumentError) and isinstance(error.original_error, ValidationError):
        return _invalid(error.original_error, argument=True)
    if isinstance(error, ValidationError):
        return _invalid(error)
    log.error("rpc.failed", exc_info=error)
    return WarrenError("the service failed; its log has the trace id of this reply")


def _invalid(error: ValidationError, *, argument: bool = False) -> WarrenError:
    """`argument`: the fields start with the name of the handler's argument, which the caller does not know."""
    found: list[dict[str, Any]] = [dict(item) for item in error.errors(include_url=False, include_input=False)]
    return invalid_input([{**item, "loc": item["loc"][1:]} for item in found] if argument else found)


def problem_response(error: WarrenError) -> NatsResponse:
    """The reply with an error."""
    here = current()
    problem = error.problem(here.trace_id if here else "")
    return NatsResponse(problem.model_dump_json().encode(), headers={"content-type": CONTENT_TYPE})


def reply(model: BaseModel, headers: dict[str, str] | None = None, *, exclude_defaults: bool = False) -> NatsResponse:
    """A reply with exactly these bytes; `headers` are those of a signature over them. `exclude_defaults`: a shorter text, which is
    read as the same."""
    body = model.model_dump_json(exclude_defaults=exclude_defaults).encode()
    return NatsResponse(body, headers={"content-type": CONTENT_JSON, **(headers or {})})


def build_broker(settings: BusSettings, name: str) -> Broker:
    """The broker of a service; `name` is its bus user."""
    return Broker(settings, name, build_tracer(name))


async def serve(app: FastStream, consumers: Iterable[tuple[str, str]] = ()) -> None:
    """Run until SIGINT or SIGTERM.

    The process ends with EXIT_CLOSED when the client is closed for good or when one of `consumers` (stream, name) was deleted: its
    supervisor restarts it, which creates everything again.
    """
    broker = app.broker
    if not isinstance(broker, Broker):
        raise TypeError("serve() needs a broker of build_broker()")
    ended = threading.Event()
    threading.Thread(target=_watch_client, args=(broker, ended), daemon=True, name="bus-watchdog").start()
    watching = asyncio.create_task(watch_consumers(broker, tuple(consumers)))
    try:
        await app.run()
    finally:
        watching.cancel()
        ended.set()


def _watch_client(broker: Broker, ended: threading.Event) -> None:
    """Check the client in a thread: FastStream's pull loop blocks the event loop forever once the client is closed."""
    while not ended.wait(WATCH_INTERVAL):
        client = broker._connection
        if client is not None and client.is_closed and not broker.stopping:
            log.error("bus.closed_permanently", client=broker.service, exit_code=EXIT_CLOSED)
            os._exit(EXIT_CLOSED)


async def watch_consumers(broker: Broker, consumers: tuple[tuple[str, str], ...]) -> None:
    """End the process when a durable consumer was deleted: FastStream would pull from it forever without result."""
    seen: set[tuple[str, str]] = set()
    while consumers:
        await asyncio.sleep(CONSUMER_INTERVAL)
        for stream, name in consumers:
            try:
                await broker.client.jetstream().consumer_info(stream, name)
                seen.add((stream, name))
            except NotFoundError:
                if (stream, name) in seen:
                    log.error("bus.consumer_gone", stream=stream, consumer=name, exit_code=EXIT_CLOSED)
                    os._exit(EXIT_CLOSED)
            except (NatsError, TimeoutError):
                continue
