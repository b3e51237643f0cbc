"""`python -m warren_policy` as a whole, on a real nats-server and a real PostgreSQL."""

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import asyncpg
import pytest
from pydantic import BaseModel

from warren_bus import tracing
from warren_bus.connection import Connection
from warren_bus.errors import BusError
from warren_bus.rpc import ReplyT, call, exchange
from warren_contracts import subjects
from warren_contracts.commands import (
    ApplyPolicies,
    ApplyReply,
    DeletePolicies,
    Empty,
    FleetDirectory,
    GetPolicy,
    Health,
    Role,
    StoredPolicy,
)
from warren_contracts.documents import TrustDocument
from warren_contracts.policy import Policy, PolicySet
from warren_contracts.problems import ConflictError, InvalidInputError, NotFoundError, UnavailableError, WarrenError
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.intent import record
from warren_testkit.postgres import PostgresServer
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, read_seed
from warren_trust.signing import Verifier, parse_signed

RELAY_LOCK = "SELECT pg_advisory_lock(hashtextextended('warren.policy.relay', 0))"
BRANCHES: dict[str, Any] = {"kind": "hub-spoke", "hubs": ["tag=hub"], "spokes": ["tag=branch"]}


def branches(id_: str = "branches", **fields: Any) -> Policy:
    return Policy.model_validate({"id": id_, "topology": BRANCHES, **fields})


@dataclass
class World:
    """A policy process, the registry's answers, and a caller with the gateway's rights."""

    bus: RealServer
    database: PostgresServer
    process: Any
    api: Connection
    registry: Connection
    live: list[Any]

    async def apply(self, *policies: Policy, **fields: Any) -> ApplyReply:
        return await self.call("apply", ApplyPolicies(policies=policies, actor="ann", **fields), ApplyReply)

    async def call(self, verb: str, request: BaseModel, reply: type[ReplyT]) -> ReplyT:
        return await call(self.api.client, subjects.rpc("policy", verb), request, reply, timeout=20)

    async def published(self, revision: int, reader: str = "tag=hub") -> Any:
        """The live message of this revision, once it has come."""

        def found() -> list[Any]:
            subject = subjects.republished(subjects.policy(reader))
            return [m for m in self.live if m.subject == subject and m.headers["Warren-Revision"] == str(revision)]

        await eventually(lambda: bool(found()), what=f"revision {revision} on {reader}")
        return found()[0]


@pytest.fixture
def chosen_database(request: pytest.FixtureRequest) -> PostgresServer:
    """One server for all tests; its own for a test that stops it."""
    if request.node.get_closest_marker("own_database") or "stops" in request.node.name:
        server: PostgresServer = request.getfixturevalue("own_database")
    else:
        server = request.getfixturevalue("database")
        server.sql("DROP SCHEMA IF EXISTS policy CASCADE")
    return server


@pytest.fixture
async def world(
    bus: RealServer, chosen_database: PostgresServer, process: Any, connect: Any, environ_of: Any, ready: Any
) -> World:
    policy = process("warren_policy", environ_of("policy", chosen_database.dsn()))
    registry, api = await connect("registry"), await connect("api")
    made = World(bus, chosen_database, policy, api, registry, [])
    fleet = FleetDirectory(
        epoch=1,
        revision=1,
        peers=(record("hub-1", 1, "hub"), record("gw1", 2, "branch")),
        tags=("branch", "hub", "lab"),
    )

    async def directory(message: Any) -> None:
        await registry.client.publish(message.reply, fleet.model_dump_json().encode())

    async def see(message: Any) -> None:
        made.live.append(message)

    await registry.client.subscribe(subjects.rpc("registry", "directory"), cb=directory)
    await registry.client.subscribe(subjects.republished(f"{subjects.VERSION}.policy.>"), cb=see)
    await registry.client.flush()
    await policy.start()
    await ready(api, "policy")
    return made


until_ok = partial(eventually, ignoring=(UnavailableError, BusError), pause_s=0.1)


async def test_a_policy_is_published_end_to_end_and_its_signature_verifies(world: World) -> None:
    with tracing.entered(tracing.new_trace()) as trace:
        reply = await world.apply(branches())
    assert reply.readers == ("tag=branch", "tag=hub")
    message = await world.published(reply.revision)
    signing = read_seed(world.bus.folder / "keys" / "policy-signing.seed", KeyKind.SIGNING).public_base64
    trust = TrustDocument(epoch=1, revision=1, policy=signing, registry=signing)
    Verifier(trust).verify(parse_signed(subjects.policy("tag=hub"), message.headers, message.data))
    held = PolicySet.model_validate_json(message.data)
    assert (held.batch, [item.policy.id for item in held.policies]) == (("tag=branch", "tag=hub"), ["branches"])
    assert trace.trace_id in message.headers["traceparent"]
    branch = await world.published(reply.revision, "tag=branch")
    assert branch.headers["Nats-Batch-Id"] == message.headers["Nats-Batch-Id"]

    def logged() -> set[str]:
        lines = [json.loads(line) for line in world.process.text().splitlines() if line.endswith("}")]
        return {line["event"] for line in lines if line.get("trace_id") == trace.trace_id}

    # The line follows the publication, which the subscriber may receive first.
    await eventually(lambda: {"policy.stored", "policy.published"} <= logged())


async def test_a_deleted_policy_leaves_emptied_sets(world: World) -> None:
    await world.apply(branches())
    reply = await world.call("delete", DeletePolicies(ids=("branches",), actor="ann"), ApplyReply)
    message = await world.published(reply.revision, "tag=branch")
    assert PolicySet.model_validate_json(message.data).policies == ()


async def test_events_follow_their_sets_on_the_stream_event(world: World) -> None:
    await world.apply(branches(), branches("more", priority=7))
    js = world.api.client.jetstream()
    reading = await js.pull_subscribe(f"{subjects.VERSION}.event.policy.>", stream="EVENT", inbox_prefix=b"_INBOX.api.")
    seen: list[Any] = []
    while len(seen) < 2:
        seen += await reading.fetch(2 - len(seen), timeout=60)
    assert {message.subject for message in seen} == {
        "warren.v1.event.policy.changed.branches",
        "warren.v1.event.policy.changed.more",
    }
    assert {json.loads(message.data)["actor"] for message in seen} == {"ann"}
    assert {message.headers["ce-type"] for message in seen} == {"warren.policy.changed.v1"}


async def test_a_process_killed_after_the_commit_loses_nothing(world: World) -> None:
    first = await world.apply(branches())
    await world.published(first.revision)
    holder = await asyncpg.connect(world.database.dsn())
    try:
        await holder.execute(RELAY_LOCK)  # as another relay would: revisions are stored and wait
        for priority in (1, 2):
            await world.apply(branches(priority=priority))
        await world.process.end(signal.SIGKILL)
        assert not any(message.headers["Warren-Revision"] != "1" for message in world.live)
    finally:
        await holder.close()
    await world.process.start()
    for revision in (2, 3):
        await world.published(revision)
    hub = subjects.republished(subjects.policy("tag=hub"))
    assert [m.headers["Warren-Revision"] for m in world.live if m.subject == hub] == ["1", "2", "3"]


async def test_two_processes_share_the_work_and_lose_no_update(
    world: World, process: Any, environ_of: Any, ready: Any
) -> None:
    second = process("warren_policy", environ_of("policy", world.database.dsn()))
    await second.start()
    await eventually(lambda: "bus.connected" in second.text())
    await ready(world.api, "policy")
    replies = await asyncio.gather(*(world.apply(branches(f"p{n}", priority=n)) for n in range(16)))
    assert sorted(reply.revision for reply in replies) == list(range(1, 17))
    message = await world.published(16)
    held = PolicySet.model_validate_json(message.data)
    assert {item.policy.id for item in held.policies} == {f"p{n}" for n in range(16)}
    hub = subjects.republished(subjects.policy("tag=hub"))
    assert [int(m.headers["Warren-Revision"]) for m in world.live if m.subject == hub] == list(range(1, 17))


async def test_another_system_calls_as_itself_and_a_viewer_only_reads(world: World) -> None:
    async with GrantingCallout(world.bus) as callout, AsyncExitStack() as stack:
        links = {}
        for name, role in (("ann", Role.OPERATOR), ("bob", Role.VIEWER)):
            settings, nkey = world.bus.new_agent(name)
            callout.operators[nkey] = (name, role)
            link = Connection(settings, name=name, inbox_prefix=f"_INBOX.op.{name}")
            links[name] = await stack.enter_async_context(link)
            await link.wait_connected()
        command = ApplyPolicies(policies=(branches(),), actor="somebody else")
        await call(links["ann"].client, subjects.rpc("policy", "apply"), command, ApplyReply, timeout=20)
        stored = await call(
            links["bob"].client, subjects.rpc("policy", "get"), GetPolicy(id="branches"), StoredPolicy, timeout=20
        )  # fmt: skip
        assert stored.actor == "ann"  # as by REST
        with pytest.raises(UnavailableError):
            await call(links["bob"].client, subjects.rpc("policy", "apply"), command, ApplyReply, timeout=1)


REFUSED: list[tuple[Any, type[WarrenError], str]] = [
    (b"{", InvalidInputError, "not JSON"),
    (b"[" * 100_000, InvalidInputError, "not JSON"),
    ([], InvalidInputError, "(root)"),
    ({}, InvalidInputError, "policies"),
    ({"policies": []}, InvalidInputError, "policies"),
    ({"policies": [{"id": "a", "topology": BRANCHES}], "mood": 1}, InvalidInputError, "mood"),
    ({"policies": [{"id": "a", "topology": BRANCHES, "colour": "red"}]}, InvalidInputError, "policies/0/colour"),
    ({"policies": [{"id": "A B", "topology": BRANCHES}]}, InvalidInputError, "policies/0/id"),
    ({"policies": [{"id": "a", "topology": BRANCHES, "priority": "high"}]}, InvalidInputError, "policies/0/priority"),
    ({"policies": [{"id": "a", "topology": BRANCHES, "name": "\ud800"}]}, InvalidInputError, "policies/0/name"),
    ({"policies": [{"id": "a", "topology": BRANCHES, "priority": 10**400}]}, InvalidInputError, "policies/0/priority"),
    ({"policies": [{"id": "a", "topology": {"kind": "star"}}]}, InvalidInputError, "policies/0/topology"),
    ({"policies": [{"id": "a", "topology": {"kind": "mesh", "members": []}}]}, InvalidInputError, "members"),
    ({"policies": [{"id": "a", "topology": {"kind": "mesh", "members": ["tag=>"]}}]}, InvalidInputError, "members/0"),
    ({"policies": [{"id": "a", "topology": {"kind": "mesh", "members": ["tag=x"]}}]}, InvalidInputError, "members/0"),
    ({"policies": [{"id": "a", "topology": {"kind": "mesh", "members": ["peer=x"]}}]}, InvalidInputError, "members/0"),
    ({"policies": [{"id": "a", "topology": BRANCHES, "crypto": {"profile": "rot13"}}]}, InvalidInputError, "crypto/profile"),
    (
        {"policies": [{"id": "a", "tunnels": [
            {"name": "t", "ends": [{"peer": "gw1", "subnets": ["10.0.0.0/99"]}, {"peer": "hub-1"}]}]}]},
        InvalidInputError, "policies/0/tunnels/0/ends/0/subnets/0",
    ),
    ({"policies": [{"id": "a", "topology": BRANCHES}, {"id": "a", "topology": BRANCHES}]}, InvalidInputError, "policies/1/id"),
    (
        {"policies": [{"id": "a", "topology": BRANCHES}, {"id": "b", "topology": BRANCHES}]}, InvalidInputError, "policies/",
    ),
    ({"policies": [{"id": "a", "topology": BRANCHES}], "mode": "update"}, NotFoundError, "no policy a"),
    ({"policies": [{"id": "a", "topology": BRANCHES}], "expected_versions": {"a": 3}}, ConflictError, "expected_versions/a"),
]  # fmt: skip


async def test_bad_input_is_refused_by_name_and_stores_nothing(world: World) -> None:
    for request, kind, part in REFUSED:
        payload = request if isinstance(request, bytes) else json.dumps(request).encode()
        with pytest.raises(WarrenError) as caught:  # the class depends on which packages this process knows
            await exchange(world.api.client, subjects.rpc("policy", "apply"), payload, timeout=20)
        assert caught.value.problem().status == kind.status
        assert part in caught.value.problem().line, (payload[:200], caught.value.problem().line)
        assert len(caught.value.problem().line) < 4_000
    health = await world.call("health", Empty(), Health)
    assert health.ready
    assert (await world.apply(branches())).revision == 1


async def test_an_actor_may_hold_no_control_characters(world: World) -> None:
    command = ApplyPolicies(policies=(branches(name="a\x00b"),), actor="a\x00n\nn")
    await world.call("apply", command, ApplyReply)
    stored: StoredPolicy = await world.call("get", GetPolicy(id="branches"), StoredPolicy)
    assert (stored.actor, stored.policy.name) == ("ann", "a\x00b")


async def test_a_set_too_large_to_travel_is_refused_by_the_name_of_its_reader(world: World) -> None:
    text = "x" * 1_000
    policies = [branches(f"p{n:03}", priority=n, description=text, name=text) for n in range(400)]
    await world.apply(*policies[:200])
    with pytest.raises(InvalidInputError, match=r"the set of tag=(hub|branch) would have"):
        await world.apply(*policies[200:])
    assert (await world.apply(branches("small", priority=999))).revision == 2


async def test_an_absent_registry_is_named(world: World) -> None:
    await world.registry.__aexit__(None, None, None)
    with pytest.raises(UnavailableError, match="registry"):
        await world.apply(branches())


async def test_what_stops_is_named_and_picked_up_again_in_any_order(world: World) -> None:
    await world.apply(branches())
    await asyncio.to_thread(world.database.stop)
    with pytest.raises(UnavailableError, match="PostgreSQL"):
        await world.apply(branches(priority=1))
    health = await world.call("health", Empty(), Health)
    assert (health.ready, health.dependencies["postgres"], health.dependencies["nats"]) == (False, False, True)
    await world.bus.kill()  # both are unavailable; the bus returns first
    await world.bus.start()
    await until_ok(lambda: world.call("health", Empty(), Health))
    await asyncio.to_thread(world.database.start)
    reply = await until_ok(lambda: world.apply(branches(priority=1)))
    assert reply.revision == 2
    await world.published(2)
    await world.bus.stop()
    await asyncio.to_thread(world.database.kill)
    await asyncio.to_thread(world.database.start)  # this time the database returns first
    await world.bus.start()
    assert (await until_ok(lambda: world.apply(branches(priority=2)))).revision == 3
    await world.published(3)
    assert await world.process.end(signal.SIGTERM) == 0


async def test_a_clean_stop_works_while_the_bus_is_unavailable(world: World) -> None:
    await world.bus.kill()
    assert await world.process.end(signal.SIGTERM) == 0


async def test_the_audit_log_verifies_and_reports_a_forged_row(world: World, process: Any, environ_of: Any) -> None:
    for priority in range(3):
        await world.apply(branches(priority=priority))
    environ = environ_of("policy", world.database.dsn())
    honest = process("warren_policy.verify_audit", environ)
    await honest.start()
    assert await honest.wait() == 0
    assert honest.text().startswith("3 rows, ")
    world.database.sql(
        "SET session_replication_role = replica; UPDATE policy.audit SET actor = 'mallory' WHERE seq = 2"
    )
    forged = process("warren_policy.verify_audit", environ)
    await forged.start()
    assert await forged.wait() == 1
    assert "audit row 2" in forged.text()


@pytest.mark.parametrize(
    "missing",
    [
        "WARREN_NATS_URL",
        "WARREN_NKEY_FILE",
        "WARREN_POSTGRES_DSN",
        "WARREN_SIGNING_KEY_FILE",
        "WARREN_ROOT_PUBLIC_KEY",
        "WARREN_CALLER_KEYS",
    ],
)
async def test_a_missing_setting_is_named(bus: RealServer, process: Any, environ_of: Any, missing: str) -> None:
    environ = environ_of("policy", "postgresql://nobody@/none")
    del environ[missing]
    one = process("warren_policy", environ)
    await one.start()
    assert await one.wait() == 2
    assert missing in one.text()
