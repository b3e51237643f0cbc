"""A service's bus side on a real server: RPC, Problems, traces, batches, and the watchdogs."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import pytest
from faststream import Path as SubjectPath
from faststream.nats import JStream, PullSub
from nats.aio.msg import Msg

from warren_bus import rpc
from warren_bus.client import PatchedClient
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.headers import header
from warren_bus.publisher import EventPublisher
from warren_bus.service_calls import HEADER_DEADLINE, sign_call
from warren_bus.tracing import current, entered, new_trace
from warren_contracts import subjects
from warren_contracts.base import Input
from warren_contracts.commands import Empty, GetPolicy, Health
from warren_contracts.problems import (
    CONTENT_TYPE,
    InvalidInputError,
    NotFoundError,
    Problem,
    UnavailableError,
    WarrenError,
)
from warren_contracts.status import ReasonCode
from warren_contracts.telemetry import AttemptFailure
from warren_service.broker import EXIT_CLOSED, Broker, build_broker, reply
from warren_service.streams import EVENT, TELEMETRY
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.bus.streams import declare_streams
from warren_testkit.waiting import eventually

LIMIT = 60.0  # s
AHEAD = 60.0  # s, of the deadline of a call that is to be executed


class UnknownTagError(InvalidInputError):
    """The tag is unknown."""

    code = "unknown-tag-of-a-test"


class Secretive(Input):
    token: str


@pytest.fixture
async def api(server: RealServer) -> AsyncIterator[Connection]:
    async with Connection(server.settings("api"), name="api", inbox_prefix=inbox("api")) as connection:
        await connection.wait_connected()
        yield connection


@pytest.fixture
async def policy(server: RealServer) -> AsyncIterator[Broker]:
    broker = build_broker(server.settings("policy"), "policy")

    @broker.subscriber(subjects.rpc("policy", "health"))
    async def health(request: Empty) -> object:
        here = current()
        return reply(
            Health(service="policy", ready=True, dependencies={}, detail={"trace": here.trace_id if here else ""})
        )

    @broker.subscriber(subjects.rpc("policy", "get"))
    async def get(request: GetPolicy) -> Health:
        match request.id:
            case "none":
                raise NotFoundError("there is no policy none")
            case "tag":
                raise UnknownTagError("tag x")
            case "crash":
                raise RuntimeError("a secret detail")
        return Health(service=request.id, ready=True, dependencies={})

    @broker.subscriber(subjects.rpc("policy", "list"))
    async def secretive(request: Secretive) -> Empty:
        return Empty()

    @broker.subscriber("warren.v1.rpc.policy.by.{name}")
    async def by(name: Annotated[str, SubjectPath()], request: Empty) -> Health:
        return Health(service=name, ready=True, dependencies={})

    await broker.start()
    yield broker
    await broker.stop()


async def test_call_and_answer(policy: Broker, api: Connection) -> None:
    answer = await rpc.call(api.client, subjects.rpc("policy", "get"), GetPolicy(id="x"), Health)
    assert answer.service == "x"
    answer = await rpc.call(api.client, "warren.v1.rpc.policy.by.ann", Empty(), Health)
    assert answer.service == "ann"


async def test_one_trace_goes_through_the_call(policy: Broker, api: Connection) -> None:
    here = new_trace()
    with entered(here):
        answer = await rpc.call(api.client, subjects.rpc("policy", "health"), Empty(), Health)
    assert answer.detail["trace"] == here.trace_id


async def test_errors_of_a_handler_are_raised_at_the_caller(policy: Broker, api: Connection) -> None:
    subject = subjects.rpc("policy", "get")
    with pytest.raises(NotFoundError, match="no policy none"):
        await rpc.call(api.client, subject, GetPolicy(id="none"), Health)
    with pytest.raises(UnknownTagError, match="tag x"):
        await rpc.call(api.client, subject, GetPolicy(id="tag"), Health)
    with pytest.raises(WarrenError) as caught:
        await rpc.call(api.client, subject, GetPolicy(id="crash"), Health)
    assert caught.value.status == 500
    assert "secret" not in str(caught.value)


async def raw(api: Connection, subject: str, body: bytes) -> Msg:
    headers = {"content-type": "application/json", **signed(api, subject, body)}
    return await api.client.request(subject, body, timeout=LIMIT, headers=headers)


def signed(api: Connection, subject: str, body: bytes, ahead: float = AHEAD) -> dict[str, str]:
    """The headers of a call whose deadline is so many seconds ahead."""
    client = api.client
    assert isinstance(client, PatchedClient)
    assert client.call_key is not None
    return sign_call(client.call_key, subject, int((time.time() + ahead) * 1_000), body)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 5_000, b'"text"', b"null"])
async def test_hostile_request_is_answered_with_invalid_input(policy: Broker, api: Connection, body: bytes) -> None:
    answer = await raw(api, subjects.rpc("policy", "get"), body)
    assert header(answer.headers, "content-type") == CONTENT_TYPE
    assert Problem.model_validate_json(answer.data).status == 422


async def test_wrong_field_is_named_and_its_value_is_not(policy: Broker, api: Connection) -> None:
    answer = await raw(api, subjects.rpc("policy", "list"), b'{"tokken": "wj1_planted"}')
    problem = Problem.model_validate_json(answer.data)
    assert {error.field for error in problem.errors} == {"token", "tokken"}
    assert b"planted" not in answer.data


async def test_reply_carries_none_of_the_callers_headers(policy: Broker, api: Connection) -> None:
    planted = {"Warren-Signature": "x", "Nats-Subject": "x", "ce-id": "x", "content-type": "application/json"}
    subject, body = subjects.rpc("policy", "get"), b'{"id": "x"}'
    answer = await api.client.request(subject, body, timeout=LIMIT, headers=planted | signed(api, subject, body))
    assert set(answer.headers or {}) == {"content-type", "correlation_id", "traceparent"}


async def test_a_service_does_not_reply_to_an_event(server: RealServer) -> None:
    """The reply subject of an event is for the acknowledgement of its stream, which the publisher would take the reply for."""
    received: list[bytes] = []
    handled = asyncio.Event()
    broker = build_broker(server.settings("metrics"), "metrics")

    @broker.subscriber(subjects.event("registry", "revoked", "*"))
    async def forget(_: dict[str, str]) -> None:
        handled.set()

    async def note(message: Msg) -> None:
        received.append(message.data)

    registry = Connection(server.settings("registry"), name="registry", inbox_prefix=inbox("registry"))
    async with registry:
        await broker.start()
        await broker.client.flush()  # the server has its subscription
        client = await registry.wait_connected()
        reply = client.new_inbox()
        await client.subscribe(reply, cb=note)
        await client.publish(subjects.event("registry", "revoked", "gw1"), b"{}", reply=reply)
        await client.flush()
        await asyncio.wait_for(handled.wait(), LIMIT)
        await broker.stop()  # it has sent what it had to send
        await client.flush()
        assert received == []


async def test_nobody_answers_is_unavailable(api: Connection) -> None:
    with pytest.raises(UnavailableError, match="the metrics service is unavailable"):
        await rpc.call(api.client, subjects.rpc("metrics", "health"), Empty(), Health)


async def test_a_hung_service_is_named_and_does_not_do_later_what_nobody_waits_for(server: RealServer) -> None:
    """The call has failed without a reply at its caller: the request must not be executed later."""
    done: list[str] = []
    holding, held = asyncio.Event(), asyncio.Event()
    broker = build_broker(server.settings("policy"), "policy")

    @broker.subscriber(subjects.rpc("policy", "get"))
    async def get(request: GetPolicy) -> Health:
        done.append(request.id)
        if request.id == "first":
            held.set()
            await holding.wait()
        return Health(service=request.id, ready=True, dependencies={})

    subject = subjects.rpc("policy", "get")
    async with Connection(server.settings("api"), name="api", inbox_prefix=inbox("api")) as connection:
        client = await connection.wait_connected()
        await broker.start()
        await broker.client.flush()
        first = asyncio.create_task(rpc.call(client, subject, GetPolicy(id="first"), Health, LIMIT))
        await asyncio.wait_for(held.wait(), LIMIT)
        with pytest.raises(rpc.NoReplyError, match=r"the policy service does not answer \(within 0.3 s\)"):
            await rpc.call(client, subject, GetPolicy(id="late"), Health, 0.3)
        holding.set()
        assert (await first).service == "first"
        assert (await rpc.call(client, subject, GetPolicy(id="last"), Health)).service == "last"
        await broker.stop()
    assert done == ["first", "last"]


async def test_a_past_deadline_and_one_that_was_not_signed_refuse(policy: Broker, api: Connection) -> None:
    subject, body = subjects.rpc("policy", "get"), b'{"id": "x"}'
    later = {HEADER_DEADLINE: str(int((time.time() + 60) * 1_000))}
    for ahead, changed, status in ((AHEAD, {}, 200), (-5.0, {}, 503), (-5.0, later, 403), (600.0, {}, 403)):
        headers = signed(api, subject, body, ahead) | changed
        answer = await api.client.request(subject, body, timeout=LIMIT, headers=headers)
        is_problem = header(answer.headers, "content-type") == CONTENT_TYPE
        assert (Problem.model_validate_json(answer.data).status if is_problem else 200) == status


async def test_service_answers_again_after_the_server_was_killed(
    server: RealServer, policy: Broker, api: Connection
) -> None:
    await server.kill()
    await eventually(lambda: not api.is_connected)
    await server.start()
    await asyncio.wait_for(api.wait_connected(), LIMIT)
    await eventually(lambda: policy.client.is_connected)
    await policy.client.flush()
    answer = await rpc.call(api.client, subjects.rpc("policy", "get"), GetPolicy(id="x"), Health)
    assert answer.service == "x"


async def test_batch_that_failed_is_redelivered(server: RealServer) -> None:
    batches: list[int] = []
    done = asyncio.Event()
    broker = build_broker(server.settings("metrics"), "metrics")

    @broker.subscriber(
        "warren.v1.telemetry.*.reason", durable="metrics-reason", stream=JStream("TELEMETRY", declare=False),
        pull_sub=PullSub(batch_size=10, timeout=1, batch=True),
    )  # fmt: skip
    async def take(bodies: list[AttemptFailure]) -> None:
        batches.append(len(bodies))
        if len(batches) == 1:
            raise RuntimeError("the first time fails")
        done.set()

    async with GrantingCallout(server) as callout:
        await declare_streams(server, TELEMETRY)
        settings, nkey = server.new_agent("gw1")
        callout.enrol(nkey, "gw1", ())
        async with Connection(settings, name="gw1", inbox_prefix=inbox("gw1")) as agent:
            await agent.wait_connected()
            publisher = EventPublisher(lambda: agent.client, "/peers/gw1")
            event = AttemptFailure(at=datetime.now(UTC), tunnel="a+b", code=ReasonCode.OTHER)
            await publisher.publish(subjects.telemetry("gw1", "reason"), "warren.telemetry.reason.v1", event)
        await broker.start()
        try:
            await asyncio.wait_for(done.wait(), LIMIT)
        finally:
            await broker.stop()
    assert batches == [1, 1]


PROGRAM = """
import asyncio, sys
from pathlib import Path
from faststream import FastStream
from warren_service.broker import build_broker, serve
from warren_bus.settings import BusSettings
broker = build_broker(BusSettings((sys.argv[1],), Path(sys.argv[2])), "policy")
app = FastStream(broker)
@app.after_startup
async def ready():
    print("ready", flush=True)
    if sys.argv[3] == "close":
        await broker.client.close()
asyncio.run(serve(app))
"""


@pytest.mark.parametrize(("how", "code"), [("close", EXIT_CLOSED), ("term", 0)])
async def test_process_ends_when_its_client_is_closed_for_good_and_cleanly_on_sigterm(
    server: RealServer, how: str, code: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, server.url, str(server.folder / "keys" / "policy.seed"), how,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), LIMIT) == b"ready\n"
        if how == "term":
            process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), LIMIT) == code
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_events_are_stored_once_although_repeated(server: RealServer) -> None:
    async with (
        Connection(server.settings("policy"), name="policy", inbox_prefix=inbox("policy")) as connection,
    ):
        await connection.wait_connected()
        await declare_streams(server, EVENT)
        publisher = EventPublisher(lambda: connection.client, "/services/policy")
        subject = subjects.event("policy", "changed", "x")
        first = await publisher.publish(subject, "warren.policy.changed.v1", Empty(), event_id="one")
        again = await publisher.publish(subject, "warren.policy.changed.v1", Empty(), event_id="one")
        assert (first.sequence, again.sequence, again.duplicate) == (1, 1, True)
