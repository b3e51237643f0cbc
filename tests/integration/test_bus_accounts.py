"""The five accounts on a real server: services do their part, agents and operators only theirs."""

import asyncio
import json

import pytest
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from warren_bus.client_subjects import inbox, policy_get, secret_get
from warren_bus.connection import Connection
from warren_contracts import subjects
from warren_contracts.commands import Role
from warren_service.callers import parse_caller
from warren_testkit.bus.accounts import Bus
from warren_testkit.waiting import eventually

LIMIT = 60.0  # s
FOREIGN_PUBLISHES = (
    policy_get("tag=spoke"),
    policy_get("peer=gw2"),
    policy_get("*"),
    "$JS.API.DIRECT.GET.POLICY",  # multi_last
    "$JS.API.DIRECT.GET.DIRECTORY",
    "$JS.API.DIRECT.GET.DIRECTORY.warren.v1.directory.tag=hub.gw2",
    "$JS.API.DIRECT.GET.TELEMETRY.warren.v1.telemetry.gw2.report",
    secret_get("gw2"),
    "$JS.API.STREAM.INFO.POLICY",
    "$JS.API.STREAM.CREATE.POLICY",
    "$JS.API.STREAM.PURGE.POLICY",
    "$JS.API.CONSUMER.CREATE.POLICY",
    "$JS.API.CONSUMER.CREATE.POLICY.x.warren.v1.policy.tag=hub",
    "$JS.API.CONSUMER.DURABLE.CREATE.TELEMETRY.x",
    "$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.metrics",
    subjects.policy("tag=hub"),
    subjects.live(subjects.policy("tag=hub")),
    subjects.directory("all", "gw1"),
    subjects.digest("all"),
    subjects.secret("gw1"),
    subjects.telemetry("gw2", "report"),
    "warren.v1.telemetry.gw1.other",
    "warren.v1.telemetry.gw1",
    subjects.event("policy", "changed", "x"),
    subjects.rpc_agent("gw2", "whoami"),
    "warren.v1.rpc.agent.gw1.other",
    subjects.rpc("policy", "apply"),
    subjects.rpc("registry", "directory"),
    "warren.v1.rpc.enrol.gw1",
    "_INBOX.gw2.x",
    "_R_.x",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.USER.AUTH",
)


async def test_agent_may_not_publish_where_it_has_no_business(bus: Bus) -> None:
    agent = await bus.agent("gw1", "hub")
    await bus.refuses_publish(agent, "gw1", *FOREIGN_PUBLISHES)


FOREIGN_SUBSCRIPTIONS = (
    ">",
    "live.>",
    "$JS.ACK.>",
    "$JS.ACK.live.>",
    "live.warren.v1.policy.all",
    "$JS.ACK.live.warren.v1.policy.*",
    "$JS.ACK.live.warren.v1.policy.tag=spoke",
    "$JS.ACK.live.warren.v1.policy.peer=gw2",
    "$JS.ACK.live.warren.v1.directory.>",
    "$JS.ACK.live.warren.v1.directory.tag=spoke.*",
    "$JS.ACK.live.warren.v1.digest.tag=spoke",
    "$JS.ACK.live.warren.v1.secret.gw2",
    "warren.v1.policy.tag=hub",
    "warren.v1.telemetry.>",
    "warren.v1.rpc.agent.gw1.whoami",
    "warren.v1.event.>",
    "_INBOX.>",
    "_INBOX.gw2.>",
    "_R_.>",
    "$SYS.>",
)


async def test_agent_may_not_subscribe_to_what_is_not_its_own(bus: Bus) -> None:
    agent = await bus.agent("gw1", "hub")
    await bus.refuses_subscribe(agent, "gw1", *FOREIGN_SUBSCRIPTIONS)


async def test_agent_reads_its_own_and_reports_as_itself(bus: Bus) -> None:
    await bus.live.publish(*bus.live.fleet.assign({"tag=hub": ("p1",)}))
    agent = await bus.agent("gw1", "hub")
    own = await agent.request(policy_get("tag=hub"), b"", timeout=LIMIT)
    assert own.headers is not None
    assert own.headers["Nats-Subject"] == subjects.policy("tag=hub")
    assert "Nats-Last-Sequence" not in own.headers
    absent = await agent.request(secret_get("gw1"), b"", timeout=LIMIT)
    assert (absent.headers or {}).get("Status") == "404"
    ack = await agent.jetstream().publish(subjects.telemetry("gw1", "report"), b"{}")
    assert ack.stream == "TELEMETRY"
    assert not bus.errors["gw1"]


async def test_body_cannot_widen_a_direct_get(bus: Bus) -> None:
    await bus.live.publish(*bus.live.fleet.assign({"tag=spoke": ("p1",)}))
    agent = await bus.agent("gw1", "hub")
    body = json.dumps({"multi_last": ["warren.v1.policy.>"], "last_by_subj": "warren.v1.policy.tag=spoke"})
    answer = await agent.request(policy_get("tag=hub"), body.encode(), timeout=LIMIT)
    assert (answer.headers or {}).get("Status") == "408"


@pytest.mark.parametrize("header", ["Nats-Rollup", "Nats-TTL", "Nats-Batch-Id", "Nats-Schedule", "Nats-Incr"])
async def test_telemetry_with_a_streams_own_headers_is_refused(bus: Bus, header: str) -> None:
    agent = await bus.agent("gw1", "hub")
    headers = {
        header: {"Nats-Rollup": "all", "Nats-Schedule": "@every 1s"}.get(header, "1"),
        "Nats-Batch-Sequence": "1",
    }
    with pytest.raises((NatsError, TimeoutError)):
        await agent.jetstream().publish(subjects.telemetry("gw1", "report"), b"{}", headers=headers, timeout=1)
    info = await bus.live.client("metrics").jetstream().stream_info("TELEMETRY")
    assert info.state.messages == 0


async def test_enrolling_connection_may_call_one_subject(bus: Bus) -> None:
    settings, nkey = bus.server.new_agent("new", token="wj1_any")
    connection = Connection(settings, name="new", inbox_prefix=inbox(nkey))
    async with connection:
        client = await connection.wait_connected()
        received: list[dict[str, str]] = []

        async def answer(message: object) -> None:
            received.append(message.headers)  # type: ignore[attr-defined]  # nats-py's Msg
            await bus.live.client("registry").publish(message.reply, b"yes")  # type: ignore[attr-defined]

        await bus.live.client("registry").subscribe("warren.v1.rpc.enrol.*", cb=answer)
        await bus.live.client("registry").flush()
        reply = await client.request(subjects.rpc_enrol(nkey), b"{}", timeout=LIMIT)
        assert reply.data == b"yes"
        assert parse_caller(received[0]).user == nkey
        assert parse_caller(received[0]).account == "AGENTS"
        bus.errors["new"] = []
        connection.on_error(lambda error: bus.errors["new"].append(str(error)))
        _, other = bus.server.new_agent("other")
        await bus.refuses_publish(client, "new", subjects.rpc_enrol(other))
        await bus.refuses_publish(client, "new", subjects.rpc_agent("gw1", "whoami"))
        await bus.refuses_subscribe(client, "new", subjects.live(subjects.policy("all")))


async def test_reply_subject_of_an_agent_cannot_store_a_policy(bus: Bus) -> None:
    await bus.live.publish(*bus.live.fleet.assign({"tag=hub": ("p1",)}))
    before = await bus.live.client("policy").jetstream().stream_info("POLICY")
    agent = await bus.agent("gw1", "hub")
    for target in (
        subjects.policy("tag=hub"),
        subjects.rpc_agent("gw2", "whoami"),
        subjects.telemetry("gw2", "report"),
    ):
        await agent.publish(subjects.telemetry("gw1", "report"), b"{}", reply=target)
        await agent.publish(policy_get("tag=hub"), b"", reply=target)
        await agent.publish(subjects.rpc_agent("gw1", "whoami"), b"{}", reply=target)
    await agent.flush()
    await asyncio.wait_for(agent.jetstream().publish(subjects.telemetry("gw1", "report"), b"{}"), LIMIT)
    after = await bus.live.client("policy").jetstream().stream_info("POLICY")
    assert after.state.last_seq == before.state.last_seq
    telemetry = await bus.live.client("metrics").jetstream().stream_info("TELEMETRY", subjects_filter=">")
    assert set(telemetry.state.subjects or {}) == {subjects.telemetry("gw1", "report")}
    assert not any("gw2" in call for call in bus.live.calls)


async def test_operators_and_services_do_not_call_on_the_same_subject(bus: Bus) -> None:
    received: list[str] = []

    async def note(message: Msg) -> None:
        received.append(message.subject)

    policy = bus.live.client("policy")
    await policy.subscribe("warren.v1.rpc.policy.>", cb=note)
    await policy.subscribe("warren.v1.ops.policy.*", cb=note)
    await policy.flush()
    operator = await bus.operator("ann", Role.OPERATOR)
    await operator.publish(subjects.rpc("policy", "apply"), b"{}")
    await eventually(lambda: received == [subjects.rpc_of_operators("policy", "apply")], what="the operator's call")
    await bus.refuses_publish(operator, "op.ann", subjects.rpc_of_operators("policy", "apply"))


async def test_operator_calls_policy_by_role_and_is_named(bus: Bus) -> None:
    received: list[dict[str, str]] = []

    async def answer(message: object) -> None:
        received.append(message.headers)  # type: ignore[attr-defined]  # nats-py's Msg
        await bus.live.client("policy").publish(message.reply, b"ok")  # type: ignore[attr-defined]

    await bus.live.client("policy").subscribe("warren.v1.ops.policy.*", cb=answer)
    await bus.live.client("policy").flush()
    viewer = await bus.operator("ann", Role.VIEWER)
    assert (await viewer.request(subjects.rpc("policy", "list"), b"{}", timeout=LIMIT)).data == b"ok"
    assert parse_caller(received[0]) == parse_caller(received[0]).__class__("OPS", "op.ann")
    await bus.refuses_publish(viewer, "op.ann", subjects.rpc("policy", "apply"))
    await bus.refuses_publish(viewer, "op.ann", subjects.rpc("registry", "revoke"))
    await bus.refuses_subscribe(viewer, "op.ann", subjects.live(subjects.secret("gw1")), "warren.v1.event.>")


async def test_service_may_not_do_the_work_of_another(bus: Bus) -> None:
    errors: list[str] = []
    api = Connection(bus.server.settings("api"), name="api", inbox_prefix=inbox("api"))
    async with api:
        client = await api.wait_connected()
        api.on_error(lambda error: errors.append(str(error)))
        for subject in (
            subjects.policy("all"),
            subjects.directory("all", "gw1"),
            subjects.event("policy", "changed", "x"),
            "$JS.API.STREAM.DELETE.POLICY",
            "$JS.API.CONSUMER.CREATE.TELEMETRY.x",
            "$SYS.REQ.SERVER.x.KICK",
        ):
            await client.publish(subject, b"x")
        await client.flush()
        await eventually(lambda: len(errors) == 6, what="six refusals")


async def test_api_replays_events_by_an_ordered_consumer(bus: Bus) -> None:
    policy = bus.live.client("policy").jetstream()
    for number in range(3):
        await policy.publish(subjects.event("policy", "changed", f"p{number}"), str(number).encode())
    api = Connection(bus.server.settings("api"), name="api", inbox_prefix=inbox("api"))
    async with api:
        js = (await api.wait_connected()).jetstream()
        replay = await js.subscribe("warren.v1.event.>", stream="EVENT", ordered_consumer=True)
        assert [(await replay.next_msg(timeout=LIMIT)).data for _ in range(3)] == [b"0", b"1", b"2"]
        await policy.publish(subjects.event("policy", "changed", "p3"), b"3")
        assert (await replay.next_msg(timeout=LIMIT)).data == b"3"
        await replay.unsubscribe()


async def test_metrics_pulls_telemetry_by_its_own_consumers_only(bus: Bus) -> None:
    agent = await bus.agent("gw1", "hub")
    await agent.jetstream().publish(subjects.telemetry("gw1", "tunnel"), b"{}")
    js = bus.live.client("metrics").jetstream()
    pull = await js.pull_subscribe("warren.v1.telemetry.*.tunnel", durable="metrics-tunnel", stream="TELEMETRY")
    message = (await pull.fetch(1, timeout=LIMIT))[0]
    await message.ack_sync()
    assert "Nats-Request-Info" not in (message.headers or {})
    with pytest.raises((NatsError, TimeoutError)):
        await asyncio.wait_for(
            js.pull_subscribe("warren.v1.telemetry.*.tunnel", durable="registry", stream="TELEMETRY"), 2
        )
