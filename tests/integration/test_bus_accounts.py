"""The five accounts on a real server: services do their part, agents and operators only theirs."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, StreamConfig
from nats.js.errors import BadRequestError

from warren_bus.callers import Caller, parse_caller, require_agent
from warren_bus.connection import Connection
from warren_bus.own_subjects import inbox, policy_get, secret_get
from warren_bus.settings import BusSettings
from warren_bus.streams import STREAMS, declare, wait_for
from warren_bus.testing import Fleet, GrantingCallout, RealServer, eventually
from warren_bus.testing.live import LiveFleet
from warren_contracts import subjects
from warren_contracts.commands import Role
from warren_contracts.problems import Forbidden
from warren_contracts.telemetry import KEPT_KINDS, MAX_PRESENCE, MAX_TELEMETRY


class Bus:
    """A server, a callout, the streams, and agents that connect."""

    def __init__(self, server: RealServer, callout: GrantingCallout, live: LiveFleet) -> None:
        self.server, self.callout, self.live = server, callout, live
        self.connections: list[Connection] = []
        self.errors: dict[str, list[str]] = {}

    async def agent(self, peer: str, *tags: str) -> Client:
        settings, nkey = self.server.new_agent(peer)
        self.callout.enrol(nkey, peer, tags)
        return await self._connect(settings, peer)

    async def operator(self, name: str, role: Role) -> Client:
        settings, nkey = self.server.new_agent(name)
        self.callout.operators[nkey] = (name, role)
        return await self._connect(settings, f"op.{name}")

    async def _connect(self, settings: BusSettings, name: str) -> Client:
        connection = Connection(settings, name=name, inbox_prefix=inbox(name))
        await connection.__aenter__()
        self.connections.append(connection)
        self.errors[name] = []
        connection.on_error(lambda error: self.errors[name].append(str(error)))
        return await connection.wait_connected()

    async def close(self) -> None:
        for connection in self.connections:
            await connection.__aexit__(None, None, None)

    async def refuses_publish(self, client: Client, name: str, *subjects_: str) -> None:
        """Wait until the server has said of every subject that this client may not publish there."""
        self.errors[name].clear()
        for subject in subjects_:
            await client.publish(subject, b"x")
        await self._refuses(name, "publish", subjects_)

    async def refuses_subscribe(self, client: Client, name: str, *subjects_: str) -> None:
        self.errors[name].clear()
        opened = [await client.subscribe(subject) for subject in subjects_]
        await self._refuses(name, "subscription", subjects_)
        for subscription in opened:
            await subscription.unsubscribe()

    async def _refuses(self, name: str, what: str, subjects_: tuple[str, ...]) -> None:
        wanted = [f'permissions violation for {what} to "{subject.lower()}"' for subject in subjects_]

        def missing() -> list[str]:
            return [text for text in wanted if not any(text in error for error in self.errors[name])]

        try:
            await eventually(lambda: not missing(), 5)
        except AssertionError:
            raise AssertionError(f"not refused: {missing()}") from None


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    async with RealServer(tmp_path) as server, GrantingCallout(server) as callout, LiveFleet(server, Fleet()) as live:
        bus = Bus(server, callout, live)
        yield bus
        await bus.close()


async def test_waiting_for_a_stream_ends_with_its_client(bus: Bus) -> None:
    client = bus.live.client("policy")
    js = client.jetstream()
    await client.close()
    with pytest.raises(ConnectionClosedError):
        await wait_for(js, "POLICY")


async def test_owners_declare_their_streams_twice_alike(bus: Bus) -> None:
    for spec in STREAMS.values():
        js = bus.live.client(spec.owner).jetstream()
        await declare(js, spec)
        await wait_for(js, spec.name)
        config = (await js.stream_info(spec.name)).config
        assert config.subjects == list(spec.subjects)
        assert config.max_age == spec.max_age


async def test_declare_brings_an_older_stream_up_to_date(bus: Bus) -> None:
    js = bus.live.client("metrics").jetstream()
    spec = STREAMS["TELEMETRY"]
    config = (await js.stream_info(spec.name)).config
    await js.update_stream(config.evolve(max_age=600.0))
    await declare(js, spec)
    assert (await js.stream_info(spec.name)).config.max_age == spec.max_age


def before_heartbeats_had_a_stream() -> StreamConfig:
    """TELEMETRY as earlier versions declared it."""
    return StreamConfig(
        name="TELEMETRY", subjects=["warren.v1.telemetry.>"], max_age=24 * 3600.0, max_bytes=2 << 30,
        duplicate_window=120.0,
    )  # fmt: skip


async def test_an_older_telemetry_gives_its_heartbeats_up_and_loses_nothing(tmp_path: Path) -> None:
    async with RealServer(tmp_path) as server, GrantingCallout(server) as callout:
        settings, nkey = server.new_agent("gw1")
        callout.enrol(nkey, "gw1", ())
        async with (
            Connection(server.settings("metrics"), name="metrics", inbox_prefix=inbox("metrics")) as metrics,
            Connection(settings, name="gw1", inbox_prefix=inbox("gw1")) as gw1,
        ):
            js = (await metrics.wait_connected()).jetstream()
            await js.add_stream(before_heartbeats_had_a_stream())
            pull = await js.pull_subscribe("warren.v1.telemetry.>", durable="metrics", stream="TELEMETRY")
            heartbeats = ConsumerConfig(
                name="metrics-report",
                durable_name="metrics-report",
                filter_subject="warren.v1.telemetry.*.presence",
                inactive_threshold=60.0,
            )  # as the registry had: its filter has nothing in TELEMETRY any more (under a name that our user may make)
            await js.add_consumer("TELEMETRY", heartbeats)
            agent = (await gw1.wait_connected()).jetstream()
            for kind in ("presence", "report"):
                await agent.publish(subjects.telemetry("gw1", kind), b"old")
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                group.create_task(declare(js, STREAMS["PRESENCE"]))  # waits for its subjects
                group.create_task(declare(js, STREAMS["TELEMETRY"]))
            stored = [await agent.publish(subjects.telemetry("gw1", kind), b"new") for kind in ("presence", "report")]
            assert [ack.stream for ack in stored] == ["PRESENCE", "TELEMETRY"]
            held = [(message.subject.rsplit(".", 1)[1], message.data) for message in await pull.fetch(3, timeout=5)]
            assert held == [("presence", b"old"), ("report", b"old"), ("report", b"new")]
            config = (await js.stream_info("TELEMETRY")).config
            assert (config.max_msgs_per_subject, config.max_msg_size) == (512, 131_072)


async def test_a_stream_that_cannot_be_brought_up_to_date_stays_as_it_is(bus: Bus) -> None:
    js = bus.live.client("metrics").jetstream()
    spec = STREAMS["TELEMETRY"]
    with structlog.testing.capture_logs() as told:
        await declare(js, spec, replicas=3)  # of one server: refused
    assert [(line["event"], line["stream"]) for line in told] == [("bus.stream_not_updated", "TELEMETRY")]
    assert (await js.stream_info(spec.name)).config.num_replicas == 1
    ack = await (await bus.agent("gw1")).jetstream().publish(subjects.telemetry("gw1", "report"), b"{}")
    assert ack.stream == "TELEMETRY"


async def test_one_peer_has_a_bounded_part_of_the_store(bus: Bus) -> None:
    agent = await bus.agent("gw1")
    other = await bus.agent("gw2")
    await other.jetstream().publish(subjects.telemetry("gw2", "report"), b"{}")
    for kind, size in (("presence", MAX_PRESENCE), *((kind, MAX_TELEMETRY) for kind in KEPT_KINDS)):
        with pytest.raises(BadRequestError, match="exceeds maximum"):
            await agent.jetstream().publish(subjects.telemetry("gw1", kind), b"x" * (size + 1))
    for number in range(600):
        await agent.publish(subjects.telemetry("gw1", "report"), b"%d" % number)
        await agent.publish(subjects.telemetry("gw1", "presence"), b"%d" % number)
    await agent.jetstream().publish(subjects.telemetry("gw1", "report"), b"last")
    js = bus.live.client("metrics").jetstream()
    for stream, expected in (("TELEMETRY", {"gw1": 512, "gw2": 1}), ("PRESENCE", {"gw1": 1})):
        state = (await js.stream_info(stream, subjects_filter=">")).state
        held = {subject.split(".")[3]: count for subject, count in (state.subjects or {}).items()}
        assert held == expected


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
    "live.warren.v1.policy.*",
    "live.warren.v1.policy.tag=spoke",
    "live.warren.v1.policy.peer=gw2",
    "live.warren.v1.directory.>",
    "live.warren.v1.directory.tag=spoke.*",
    "live.warren.v1.digest.tag=spoke",
    "live.warren.v1.secret.gw2",
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
    own = await agent.request(policy_get("tag=hub"), b"", timeout=5)
    assert own.headers is not None
    assert own.headers["Nats-Subject"] == subjects.policy("tag=hub")
    assert "Nats-Last-Sequence" not in own.headers
    absent = await agent.request(secret_get("gw1"), b"", timeout=5)
    assert (absent.headers or {}).get("Status") == "404"
    ack = await agent.jetstream().publish(subjects.telemetry("gw1", "report"), b"{}")
    assert ack.stream == "TELEMETRY"
    assert not bus.errors["gw1"]


async def test_body_cannot_widen_a_direct_get(bus: Bus) -> None:
    await bus.live.publish(*bus.live.fleet.assign({"tag=spoke": ("p1",)}))
    agent = await bus.agent("gw1", "hub")
    body = json.dumps({"multi_last": ["warren.v1.policy.>"], "last_by_subj": "warren.v1.policy.tag=spoke"})
    answer = await agent.request(policy_get("tag=hub"), body.encode(), timeout=5)
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
        heard: list[dict[str, str]] = []

        async def answer(message: object) -> None:
            heard.append(message.headers)  # type: ignore[attr-defined]  # nats-py's Msg
            await bus.live.client("registry").publish(message.reply, b"yes")  # type: ignore[attr-defined]

        await bus.live.client("registry").subscribe("warren.v1.rpc.enrol.*", cb=answer)
        await bus.live.client("registry").flush()
        reply = await client.request(subjects.rpc_enrol(nkey), b"{}", timeout=5)
        assert reply.data == b"yes"
        assert parse_caller(heard[0]).user == nkey
        assert parse_caller(heard[0]).account == "AGENTS"
        bus.errors["new"] = []
        connection.on_error(lambda error: bus.errors["new"].append(str(error)))
        _, other = bus.server.new_agent("other")
        await bus.refuses_publish(client, "new", subjects.rpc_enrol(other))
        await bus.refuses_publish(client, "new", subjects.rpc_agent("gw1", "whoami"))
        await bus.refuses_subscribe(client, "new", "live.warren.v1.policy.all")


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
    await asyncio.wait_for(agent.jetstream().publish(subjects.telemetry("gw1", "report"), b"{}"), 5)
    after = await bus.live.client("policy").jetstream().stream_info("POLICY")
    assert after.state.last_seq == before.state.last_seq
    telemetry = await bus.live.client("metrics").jetstream().stream_info("TELEMETRY", subjects_filter=">")
    assert set(telemetry.state.subjects or {}) == {subjects.telemetry("gw1", "report")}
    assert not any("gw2" in call for call in bus.live.calls)


FORGED = json.dumps({"acc": "OPS", "user": "op.admin"})
# Blocks of headers as nobody's client library writes them; of those without an end the server cuts the last two bytes.
HONEST_BLOCKS = {
    "none": None,
    "length 0": b"",
    "length 1": b"N",
    "length 2": b"NA",
    "length 12": b"NATS/1.0\r\n\r\n",
    "own word, well-formed": f"NATS/1.0\r\nNats-Request-Info: {FORGED}\r\n\r\n".encode(),
    "own word, twice": b"NATS/1.0\r\n" + f"Nats-Request-Info: {FORGED}\r\n".encode() * 2 + b"\r\n",
}
FORGED_BLOCKS = {
    "length 8": b"NATS/1.0",
    "unterminated": b"NATS/1.0\r\nX: aa",
    "unterminated, own word": f"NATS/1.0\r\nNats-Request-Info: {FORGED}\r\nX: aa".encode(),
    "unterminated, lower case": f"NATS/1.0\r\nnats-request-info: {FORGED}\r\nX: aa".encode(),
    "lower case": f"NATS/1.0\r\nnats-request-info: {FORGED}\r\n\r\n".encode(),
    "line feed": f"NATS/1.0\r\nX: a\nnats-request-info: {FORGED}\r\n\r\n".encode(),
    "only line feeds": b"NATS/1.0\nX: a\r\n\r\n",
    "two ends": b"NATS/1.0\r\nX: a\r\n\r\n\r\n",
    "a status": b"NATS/1.0 503\r\n\r\n",
    "a status that is no text": b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    "no block": b"GARBAGEx\r\n\r\n",
}


async def call_raw(client: Client, subject: str, block: bytes | None) -> None:
    """A request with this raw block of headers, sent past the client's library."""
    reply = f"{client._inbox_prefix.decode()}.raw"
    if block is None:
        line = f"PUB {subject} {reply} 2\r\n".encode()
    else:
        line = f"HPUB {subject} {reply} {len(block)} {len(block) + 2}\r\n".encode() + block
    await client._send_command(line + b"{}\r\n")
    await client.flush()


async def heard_by_both(bus: Bus, block: bytes | None, as_agent: bytes | None) -> tuple[Msg, Msg]:
    """What policy hears of an operator that sends this block, and the registry of an agent."""
    operator, agent = await bus.operator("ann", Role.OPERATOR), await bus.agent("gw1", "hub")
    heard: list[Msg] = []

    async def note(message: Msg) -> None:
        heard.append(message)

    policy = bus.live.client("policy")
    await policy.subscribe("warren.v1.ops.policy.apply", cb=note)
    await policy.flush()
    await call_raw(operator, subjects.rpc("policy", "apply"), block)
    await eventually(lambda: bool(heard), what="the operator's call")
    await call_raw(agent, subjects.rpc_agent("gw1", "whoami"), as_agent)
    await eventually(lambda: bool(bus.live.heard), what="the agent's call")
    return heard[0], bus.live.heard[0]


@pytest.mark.parametrize("name", HONEST_BLOCKS)
async def test_a_caller_of_ops_and_agents_is_named_whatever_little_it_sends(bus: Bus, name: str) -> None:
    of_operator, of_agent = await heard_by_both(bus, HONEST_BLOCKS[name], HONEST_BLOCKS[name])
    assert parse_caller(of_operator.headers) == Caller("OPS", "op.ann")
    assert parse_caller(of_agent.headers) == Caller("AGENTS", "gw1")


@pytest.mark.parametrize("name", FORGED_BLOCKS)
async def test_a_caller_that_hides_in_malformed_headers_is_refused(bus: Bus, name: str) -> None:
    block = FORGED_BLOCKS[name]
    as_agent = block.replace(b"OPS", b"AGENTS").replace(b"op.admin", b"gw1")
    of_operator, of_agent = await heard_by_both(bus, block, as_agent)
    with pytest.raises(Forbidden, match="headers"):
        parse_caller(of_operator.headers)
    with pytest.raises(Forbidden):
        require_agent(of_agent.headers, "gw1")


async def test_telemetry_with_malformed_headers_leaves_its_reader_alive(bus: Bus) -> None:
    agent = await bus.agent("gw1", "hub")
    subject = subjects.telemetry("gw1", "tunnel")
    js = bus.live.client("metrics").jetstream()
    pull = await js.pull_subscribe("warren.v1.telemetry.*.tunnel", durable="metrics-tunnel", stream="TELEMETRY")
    blocks = [*FORGED_BLOCKS.values(), b"N", b"NATS/1.0 \xff\xff\xff\r\nX: a\r\n\r\n"]
    for number, block in enumerate(blocks):
        data = str(number).encode()
        size = f"{len(block)} {len(block) + len(data)}"
        await agent._send_command(f"HPUB {subject} {size}\r\n".encode() + block + data + b"\r\n")
    await agent.jetstream().publish(subject, b"last")
    arrived: list[bytes] = []
    async with asyncio.timeout(10):
        while b"last" not in arrived:
            arrived += [message.data for message in await pull.fetch(20, timeout=5)]
    assert bus.live.connections["metrics"].is_connected


async def test_operators_and_services_do_not_call_on_the_same_subject(bus: Bus) -> None:
    heard: list[str] = []

    async def note(message: Msg) -> None:
        heard.append(message.subject)

    policy = bus.live.client("policy")
    await policy.subscribe("warren.v1.rpc.policy.>", cb=note)
    await policy.subscribe("warren.v1.ops.policy.*", cb=note)
    await policy.flush()
    operator = await bus.operator("ann", Role.OPERATOR)
    await operator.publish(subjects.rpc("policy", "apply"), b"{}")
    await eventually(lambda: heard == [subjects.rpc_of_operators("policy", "apply")], what="the operator's call")
    await bus.refuses_publish(operator, "op.ann", subjects.rpc_of_operators("policy", "apply"))


async def test_operator_calls_policy_by_role_and_is_named(bus: Bus) -> None:
    heard: list[dict[str, str]] = []

    async def answer(message: object) -> None:
        heard.append(message.headers)  # type: ignore[attr-defined]  # nats-py's Msg
        await bus.live.client("policy").publish(message.reply, b"ok")  # type: ignore[attr-defined]

    await bus.live.client("policy").subscribe("warren.v1.ops.policy.*", cb=answer)
    await bus.live.client("policy").flush()
    viewer = await bus.operator("ann", Role.VIEWER)
    assert (await viewer.request(subjects.rpc("policy", "list"), b"{}", timeout=5)).data == b"ok"
    assert parse_caller(heard[0]) == parse_caller(heard[0]).__class__("OPS", "op.ann")
    await bus.refuses_publish(viewer, "op.ann", subjects.rpc("policy", "apply"))
    await bus.refuses_publish(viewer, "op.ann", subjects.rpc("registry", "revoke"))
    await bus.refuses_subscribe(viewer, "op.ann", "live.warren.v1.policy.all")


async def test_service_may_not_do_the_work_of_another(bus: Bus) -> None:
    errors: list[str] = []
    gateway = Connection(bus.server.settings("gateway"), name="gateway", inbox_prefix=inbox("gateway"))
    async with gateway:
        client = await gateway.wait_connected()
        gateway.on_error(lambda error: errors.append(str(error)))
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


async def test_gateway_replays_events_by_an_ordered_consumer(bus: Bus) -> None:
    policy = bus.live.client("policy").jetstream()
    for number in range(3):
        await policy.publish(subjects.event("policy", "changed", f"p{number}"), str(number).encode())
    gateway = Connection(bus.server.settings("gateway"), name="gateway", inbox_prefix=inbox("gateway"))
    async with gateway:
        js = (await gateway.wait_connected()).jetstream()
        replay = await js.subscribe("warren.v1.event.>", stream="EVENT", ordered_consumer=True)
        assert [(await replay.next_msg(timeout=5)).data for _ in range(3)] == [b"0", b"1", b"2"]
        await policy.publish(subjects.event("policy", "changed", "p3"), b"3")
        assert (await replay.next_msg(timeout=5)).data == b"3"
        await replay.unsubscribe()


async def test_metrics_pulls_telemetry_by_its_own_consumers_only(bus: Bus) -> None:
    agent = await bus.agent("gw1", "hub")
    await agent.jetstream().publish(subjects.telemetry("gw1", "tunnel"), b"{}")
    js = bus.live.client("metrics").jetstream()
    pull = await js.pull_subscribe("warren.v1.telemetry.*.tunnel", durable="metrics-tunnel", stream="TELEMETRY")
    message = (await pull.fetch(1, timeout=5))[0]
    await message.ack_sync()
    assert "Nats-Request-Info" not in (message.headers or {})
    with pytest.raises((NatsError, TimeoutError)):
        await asyncio.wait_for(
            js.pull_subscribe("warren.v1.telemetry.*.tunnel", durable="registry", stream="TELEMETRY"), 2
        )
