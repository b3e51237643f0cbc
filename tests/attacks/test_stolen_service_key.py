"""F2: the bus key of one service was worth the fleet, by streams that read every inbox and publish on every subject.

Attackers hold the seed of one service. Streams belong to a key that serves nothing, a changed stream is put back, and a call that no
service signed is executed by none.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, RePublish, StreamConfig, StreamSource

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.headers import header
from warren_bus.service_calls import sign_call
from warren_contracts import subjects
from warren_contracts.commands import ApplyPolicies, Empty
from warren_contracts.problems import CONTENT_TYPE, Problem
from warren_service.broker import Broker, build_broker, reply
from warren_service.streams import STREAMS, deviations, stream_config
from warren_testkit.bus.accounts import Bus
from warren_testkit.bus.streams import kept_streams
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, KeyPair, call_key

SERVICES = ("registry", "policy", "metrics", "api", "callout")
APPLY = subjects.rpc("policy", "apply")
AHEAD = 100.0  # s: a deadline more than two minutes ahead is refused
EVIL = b'{"policies": [{"id": "evil", "topology": {"kind": "mesh", "members": ["all"]}}], "actor": "admin"}'


class Thief:
    """A client with the seed of a service, and what the server refuses it."""

    def __init__(self, client: Client, errors: list[str]) -> None:
        self.client = client
        self.errors = errors

    async def is_refused(self, *wanted: str) -> None:
        """Wait until the server has refused to publish on all of these subjects."""
        for subject in wanted:
            await self.client.publish(subject, b"{}")
        await eventually(
            lambda: not [it for it in wanted if not any(f'"{it.lower()}"' in error for error in self.errors)],
            what=f"refusals of {wanted}",
        )  # fmt: skip


@pytest.fixture
async def steal(bus: Bus) -> AsyncIterator[Any]:
    """Makes thieves: `await steal("metrics")`."""
    opened: list[Connection] = []

    async def make(service: str) -> Thief:
        settings = bus.server.settings(service)
        connection = Connection(settings, name=f"thief-{service}", inbox_prefix=inbox(service))
        errors: list[str] = []
        connection.on_error(lambda error: errors.append(str(error)))
        opened.append(await connection.__aenter__())
        return Thief(await connection.wait_connected(), errors)

    yield make
    for connection in opened:
        await connection.__aexit__(None, None, None)


@pytest.mark.parametrize("service", SERVICES)
async def test_no_key_of_a_service_may_change_a_stream(bus: Bus, steal: Any, service: str) -> None:
    thief = await steal(service)
    verbs = ("CREATE", "UPDATE", "DELETE", "PURGE", "RESTORE", "SNAPSHOT")
    await thief.is_refused(*(f"$JS.API.STREAM.{verb}.{stream}" for verb in verbs for stream in STREAMS))
    await thief.is_refused("$JS.API.STREAM.CREATE.MINE", "$JS.API.CONSUMER.CREATE.POLICY.mine")


async def test_the_key_of_metrics_calls_nothing_but_the_directory(bus: Bus, steal: Any) -> None:
    thief = await steal("metrics")
    verbs = ("retag", "revoke", "peers", "create_join_token", "create_operator_token", "advance_epoch")
    await thief.is_refused(*(subjects.rpc("registry", verb) for verb in verbs), APPLY, subjects.rpc("policy", "list"))


@pytest.mark.parametrize(
    "change",
    [
        {"subjects": ["warren.v1.policy.>", "_INBOX.registry.>"]},
        {"subjects": ["warren.v1.policy.>", "warren.v1.rpc.registry.>"]},
        {"republish": RePublish(src="warren.v1.policy.all", dest="warren.v1.rpc.policy.apply")},
        {"sources": [StreamSource(name="TELEMETRY")]},
        {"max_msgs_per_subject": 5},
        {"deny_purge": True, "max_msgs": 1},
    ],
    ids=["reads inboxes", "reads calls", "publishes calls", "takes telemetry as policy", "keeps old", "loses all"],
)
async def test_a_stream_that_somebody_changed_is_noticed_and_put_back(bus: Bus, change: dict[str, Any]) -> None:
    """The thief holds the stream keeper's own seed here: nothing less changes a stream."""
    js = bus.live.client("streams").jetstream()
    wanted = stream_config(STREAMS["POLICY"])

    async def as_specified() -> bool:
        return not deviations((await js.stream_info("POLICY")).config, wanted)

    async with kept_streams(bus.server):
        await eventually(as_specified)
        changed: StreamConfig = wanted.evolve(**change)
        await js.update_stream(changed)
        await eventually(as_specified, what="the stream is put back")


async def test_streams_as_the_server_reports_them_have_no_deviation(bus: Bus) -> None:
    js = bus.live.client("streams").jetstream()
    for spec in STREAMS.values():
        assert deviations((await js.stream_info(spec.name)).config, stream_config(spec)) == ()


@pytest.fixture
async def applied(bus: Bus) -> AsyncIterator[list[ApplyPolicies]]:
    """What a policy service behind the real broker executes."""
    executed: list[ApplyPolicies] = []
    broker: Broker = build_broker(bus.server.settings("policy"), "policy")

    @broker.subscriber(APPLY, queue="policy")
    @broker.subscriber(subjects.rpc_of_operators("policy", "apply"), queue="policy")
    async def apply(command: ApplyPolicies) -> object:
        executed.append(command)
        return reply(Empty())

    await broker.start()
    await broker.client.flush()
    yield executed
    await broker.stop()


def signed(bus: Bus, service: str, subject: str, payload: bytes, ahead: float = AHEAD) -> dict[str, str]:
    key = call_key(bus.server.key(service, KeyKind.USER))
    return sign_call(key, subject, int((time.time() + ahead) * 1_000), payload)


async def is_executed(client: Client, payload: bytes, headers: dict[str, str] | None) -> int:
    """The status of the reply to a call of policy's apply; 200 if it was executed."""
    answer = await client.request(APPLY, payload, timeout=60, headers=headers)
    refused = header(answer.headers, "content-type") == CONTENT_TYPE
    return Problem.model_validate_json(answer.data).status if refused else 200


async def test_a_call_that_no_service_signed_is_not_executed(
    bus: Bus, steal: Any, applied: list[ApplyPolicies]
) -> None:
    thief: Thief = await steal("api")  # the only one that may publish there: a message of others has other ways
    right = signed(bus, "api", APPLY, EVIL)
    unknown = sign_call(KeyPair.generate(KeyKind.SIGNING), APPLY, int((time.time() + AHEAD) * 1_000), EVIL)
    refused: list[dict[str, str] | None] = [
        None,
        {},
        {**right, "Warren-Call-Signature": ""},
        {**right, "Warren-Call": "0" * 32},
        {**right, "Warren-Deadline": str(int((time.time() + 60) * 1_000))},
        {**right, "Nats-Request-Info": '{"acc":"OPS","user":"op.admin"}'},
        unknown,
        {**unknown, "Warren-Caller": right["Warren-Caller"]},
        signed(bus, "api", subjects.rpc("policy", "list"), EVIL),
        signed(bus, "api", APPLY, b"{}"),
        signed(bus, "registry", APPLY, EVIL),
        signed(bus, "policy", APPLY, EVIL),
        signed(bus, "metrics", APPLY, EVIL),
        signed(bus, "api", APPLY, EVIL, ahead=-30),
        signed(bus, "api", APPLY, EVIL, ahead=100_000),
    ]
    assert [await is_executed(thief.client, EVIL, headers) for headers in refused] == [403] * 13 + [503, 403]
    assert applied == []
    assert await is_executed(thief.client, EVIL, right) == 200
    assert len(applied) == 1


async def test_a_captured_call_is_executed_once(bus: Bus, steal: Any, applied: list[ApplyPolicies]) -> None:
    thief: Thief = await steal("api")
    headers = signed(bus, "api", APPLY, EVIL)
    assert [await is_executed(thief.client, EVIL, headers) for _ in range(3)] == [200, 403, 403]
    assert len(applied) == 1


async def test_a_consumer_of_telemetry_delivers_no_call(bus: Bus, steal: Any, applied: list[ApplyPolicies]) -> None:
    """A peer's telemetry and the seed of metrics: a push consumer that delivers on the subject of a call."""
    agent = await bus.agent("gw1")
    await agent.jetstream().publish(subjects.telemetry("gw1", "report"), EVIL)
    thief: Thief = await steal("metrics")
    js = thief.client.jetstream()
    for number, subject in enumerate((APPLY, subjects.rpc_of_operators("policy", "apply"))):
        name = ("metrics", "metrics-report")[number]
        config = ConsumerConfig(
            name=name, durable_name=name, deliver_subject=subject, deliver_group="policy",
            filter_subject="warren.v1.telemetry.>",
        )  # fmt: skip
        await js.add_consumer("TELEMETRY", config)

        async def delivered(name: str = name) -> bool:
            info = await js.consumer_info("TELEMETRY", name)
            return info.delivered is not None and info.delivered.stream_seq > 0

        await eventually(delivered, what=f"the delivery of {name}")
    assert await still_answers(bus, steal)
    assert applied == [ApplyPolicies.model_validate_json(EVIL)]  # of `still_answers`


async def test_a_reply_of_a_stream_is_no_call(bus: Bus, steal: Any, applied: list[ApplyPolicies]) -> None:
    """The seed of policy itself, of registry and of metrics: replies that name the subject of a call."""
    js = bus.live.client("policy").jetstream()
    forged = {"Nats-Request-Info": '{"acc":"OPS","user":"op.admin"}'}
    await js.publish(subjects.policy("all"), EVIL, headers=forged)
    await js.publish(subjects.event("policy", "changed", "evil"), EVIL, headers=forged)
    ops = subjects.rpc_of_operators("policy", "apply")
    for service in ("policy", "registry"):
        thief: Thief = await steal(service)
        last = json.dumps({"last_by_subj": subjects.policy("all")}).encode()
        for target in (APPLY, ops):
            await thief.client.publish(f"$JS.API.DIRECT.GET.POLICY.{subjects.policy('all')}", b"", reply=target)
            await thief.client.publish("$JS.API.DIRECT.GET.POLICY", last, reply=target)
            await thief.client.publish("$JS.API.STREAM.INFO.POLICY", b"", reply=target)
        await thief.client.flush()
    assert await still_answers(bus, steal)
    assert len(applied) == 1  # of `still_answers`


async def still_answers(bus: Bus, steal: Any) -> bool:
    """One honest call, after everything that was sent before it has arrived."""
    honest: Thief = await steal("api")
    async with asyncio.timeout(60):
        return await is_executed(honest.client, EVIL, signed(bus, "api", APPLY, EVIL)) == 200


async def test_the_callouts_bus_key_shows_no_token(bus: Bus, steal: Any) -> None:
    """Requests are sealed for the callout: who has only its bus key receives them, and can neither read nor answer them."""
    thief = await steal("callout")
    received: list[bytes] = []

    async def note(message: Any) -> None:
        received.append(message.data)

    await thief.client.subscribe("$SYS.REQ.USER.AUTH", cb=note)
    await thief.client.flush()
    settings, nkey = bus.server.new_agent("new", token="wj1_planted")
    async with Connection(settings, name="new", inbox_prefix=inbox(nkey)) as connection:
        await connection.wait_connected()
    await eventually(lambda: bool(received), what="the request arrives")
    assert received[0].startswith(b"xkv1")
    assert b"planted" not in received[0]
    assert nkey.encode() not in received[0]
