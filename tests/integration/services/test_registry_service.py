"""The registry and the auth callout as processes, on a real nats-server and a real PostgreSQL."""

import asyncio
import base64
import hashlib
import json
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import nats
import pytest
from nats.errors import Error as NatsError
from pydantic import BaseModel

from warren_bus.connection import Connection
from warren_bus.keys import read_seed
from warren_bus.own_subjects import inbox
from warren_bus.rpc import call, exchange
from warren_bus.settings import BusSettings
from warren_bus.signing import Verifier, from_document, parse_signed, verify_trust
from warren_bus.testing import RealServer
from warren_contracts import subjects
from warren_contracts.commands import (
    Authenticate,
    Authenticated,
    CreateOperatorToken,
    Empty,
    FleetDirectory,
    OperatorToken,
    Page,
    PeerChange,
    PeerList,
    RevokePeer,
    Role,
)
from warren_contracts.documents import (
    DirectoryPage,
    DirectoryPageRequest,
    ReaderDigest,
    Whoami,
)
from warren_contracts.peers import PeerSummary, PresenceState
from warren_contracts.problems import Conflict, Forbidden, InvalidInput, Unavailable, WarrenError
from warren_registry.testing.stack import HUB_SPOKE, LIMIT, Agent, Stack, last_event, raw_connect, refused, seeds, until
from warren_store.testing import PostgresServer


@pytest.fixture
async def stack(bus: RealServer, own_database: PostgresServer, process: Any) -> AsyncIterator[Stack]:
    async with AsyncExitStack() as exits:
        made = Stack(bus, own_database, process, exits)
        await made.start()
        yield made


async def test_a_host_joins_by_token_and_is_a_peer_afterwards(stack: Stack) -> None:
    token = await stack.join_token("branch", subnets=["10.2.0.0/16"])
    agent = Agent(stack, "spoke-1")
    answer = await agent.enrol(token)
    assert (answer.peer, answer.tags, answer.epoch) == ("spoke-1", ("branch",), 1)
    root = base64.b32decode(token.rsplit("_", 1)[1].upper() + "====")
    assert base64.b64decode(answer.root) == root
    trust = verify_trust(answer.root, answer.trust)
    assert trust.registry == stack.bus.public_keys["registry-signing"]

    connection = await agent.connect()
    subject = subjects.rpc_agent("spoke-1", "whoami")
    message = await exchange(connection.client, subject, b"{}")
    signed = parse_signed(subject, message.headers, message.data)
    Verifier(trust).verify(signed)
    me = Whoami.model_validate_json(signed.payload)
    assert (me.peer, me.tags, me.epoch) == ("spoke-1", ("branch",), 1)
    assert me.trust == answer.trust

    await agent.announce(subnets=["10.2.1.0/24"], endpoints=["192.0.2.7"])
    with pytest.raises(InvalidInput, match="outside what the join token allows"):
        await agent.announce(subnets=["10.3.0.0/16"])
    listed = await stack.ask("peers", Page(), PeerList)
    assert [peer.peer for peer in listed.peers] == ["spoke-1"]
    assert str(listed.peers[0].record.subnets[0]) == "10.2.1.0/24"
    fleet = await stack.ask("directory", Page(), FleetDirectory)
    assert (fleet.tags, [record.peer for record in fleet.peers]) == (("branch",), ["spoke-1"])


async def test_a_lost_answer_is_told_again_and_another_key_is_a_conflict(stack: Stack) -> None:
    token = await stack.join_token("branch")
    agent = Agent(stack, "spoke-1")
    first = await agent.enrol(token)
    assert await agent.enrol(token) == first
    other = Agent(stack, "spoke-1")
    with pytest.raises(Conflict, match="belongs to another key"):
        await other.enrol(await stack.join_token("branch"))
    with pytest.raises(Conflict, match="enrolled as spoke-1"):
        await agent.enrol(await stack.join_token("branch"), peer="spoke-2")


async def test_connections_that_prove_nothing_are_refused(stack: Stack) -> None:
    agent = await stack.agent("spoke-1", "branch")
    await agent.leave()
    stranger, _ = stack.bus.new_agent("stranger")
    assert await refused(stranger)  # a key that nobody knows
    public = agent.settings.key().public

    assert await raw_connect(stack.bus.port, {"nkey": public}) == "Authorization Violation"
    assert await raw_connect(stack.bus.port, {"nkey": public, "sig": "AAAA"}) == "Authorization Violation"
    bad = base64.b64encode(b"\x00" * 64).decode()
    assert await raw_connect(stack.bus.port, {"nkey": public, "sig": bad}) == "Authorization Violation"
    assert await raw_connect(stack.bus.port, {}) == "Authorization Violation"
    assert await raw_connect(stack.bus.port, {}, sign=agent.settings.key()) == "ok"
    assert await raw_connect(stack.bus.port, {"nkey": public}, sign=stranger.key()) == "Authorization Violation"


async def test_tokens_that_are_spent_or_unknown_are_refused(stack: Stack) -> None:
    token = await stack.join_token("branch")
    await Agent(stack, "spoke-1").enrol(token)
    late = Agent(stack, "spoke-2")
    assert await refused(late.settings, token=token)
    assert await refused(late.settings, token="wj1_" + "a" * 16 + "_" + "a" * 52 + "_" + "a" * 52)
    assert await refused(late.settings, token="nonsense")
    fresh = await stack.join_token("branch", uses=2)
    assert not await refused(late.settings, token=fresh)
    stack.database.sql("UPDATE registry.join_token SET expires_at = now() - interval '1 second'")
    assert await refused(late.settings, token=fresh)


async def test_odd_names_do_not_come_in(stack: Stack) -> None:
    agent = Agent(stack, "odd")
    token = await stack.join_token("branch")
    joining = BusSettings(agent.settings.servers, agent.settings.nkey_file, token)
    connection = await stack.exits.enter_async_context(Connection(joining, name="odd", inbox_prefix=inbox(agent.nkey)))
    client = await connection.wait_connected()
    for name in (">", "*", "a.b", "UPPER", "", "a" * 64, "a\n", "tag=hub"):
        request = json.dumps({"peer": name, "token": token}).encode()
        with pytest.raises(InvalidInput) as refusal:
            await exchange(client, subjects.rpc_enrol(agent.nkey), request)
        assert [error.field for error in refusal.value.errors] == ["peer"]
        assert token not in str(refusal.value)
    with pytest.raises(InvalidInput):
        await stack.ask("retag", RawCommand(peer="odd", tags=[">"]), PeerSummary)


class RawCommand(BaseModel):
    """A command that our own models would not let out."""

    peer: str
    tags: list[str]


async def test_an_agent_cannot_call_as_another(stack: Stack) -> None:
    one = await stack.agent("spoke-1", "branch")
    await stack.agent("spoke-2", "branch")
    assert one.connection is not None
    for subject in (
        subjects.rpc_agent("spoke-2", "whoami"),
        subjects.rpc("registry", "peers"),
        subjects.rpc_enrol(one.nkey),
    ):
        with pytest.raises(Unavailable):
            await call(one.connection.client, subject, Empty(), Whoami, timeout=0.5)
    with pytest.raises(Forbidden, match="does not read tag=hub"):
        await one.ask("directory", DirectoryPageRequest(reader="tag=hub"), DirectoryPage)
    forged = {"Nats-Request-Info": json.dumps({"acc": "AGENTS", "user": "spoke-2"})}
    answer = await one.connection.client.request(
        subjects.rpc_agent("spoke-1", "whoami"), b"{}", headers=forged, timeout=2.0
    )
    assert json.loads(answer.data)["peer"] == "spoke-1"


async def test_records_reach_exactly_the_related_readers(stack: Stack) -> None:
    await stack.agent("hub-1", "hub", subnets=["10.0.0.0/16"])
    spoke = await stack.agent("spoke-1", "branch", subnets=["10.1.0.0/16"])
    assert spoke.connection is not None
    digests = await spoke.connection.client.subscribe(subjects.live(subjects.digest("tag=branch")))
    live = await spoke.connection.client.subscribe(subjects.live("warren.v1.directory.tag=branch.*"))
    await spoke.connection.client.flush()

    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)
    hub = await until(lambda: stack.stored("tag=branch", "hub-1"), "the hub's record for branches")
    assert [str(network) for network in hub.subnets] == ["10.0.0.0/16"]
    await until(lambda: stack.stored("tag=hub", "spoke-1"), "the spoke's record for hubs")
    message = await live.next_msg(timeout=LIMIT)
    while message.subject != "live.warren.v1.directory.tag=branch.hub-1":
        message = await live.next_msg(timeout=LIMIT)
    js = stack.reader.client.jetstream()
    info = await js.stream_info("DIRECTORY", subjects_filter="warren.v1.directory.tag=hub.*")
    assert set(info.state.subjects or {}) == {"warren.v1.directory.tag=hub.spoke-1"}

    page = await spoke.ask("directory", DirectoryPageRequest(reader="tag=branch"), DirectoryPage)
    told = {json.loads(document.payload)["peer"]: document for document in page.records}
    assert "hub-1" in told
    stack.verifier().verify(from_document(told["hub-1"]))

    async def digest_is_right() -> bool:
        found = ReaderDigest.model_validate_json((await digests.next_msg(timeout=LIMIT)).data)
        return found.directory_count == len(page.records) and found.policy_revision == 1

    await until(digest_is_right, "a digest that says so")
    me = await spoke.ask("whoami", Empty(), Whoami)
    assert {digest.reader for digest in me.digests} == {"all", "peer=spoke-1", "tag=branch"}

    await stack.publish_policies(("tag=hub", "tag=branch"))  # nothing is related any more

    async def withdrawn() -> bool:
        record = await stack.stored("tag=branch", "hub-1")
        return record is not None and record.withdrawn

    await until(withdrawn, "the withdrawal")
    page = await spoke.ask("directory", DirectoryPageRequest(reader="tag=branch"), DirectoryPage)
    assert "hub-1" not in {json.loads(document.payload)["peer"] for document in page.records}


async def test_an_overlap_is_a_conflict_that_names_the_other_peer(stack: Stack) -> None:
    await stack.agent("hub-1", "hub", subnets=["10.0.0.0/16"])
    spoke = await stack.agent("spoke-1", "branch")
    with pytest.raises(Conflict, match=r"10.0.9.0/24 overlaps 10.0.0.0/16 of the peer hub-1"):
        await spoke.announce(subnets=["10.0.9.0/24"])
    with pytest.raises(InvalidInput, match="default route"):
        await spoke.announce(subnets=["0.0.0.0/0"])
    with pytest.raises(Conflict, match="belongs to the peer hub-1"):
        await spoke.announce(identity="hub-1")


async def test_new_tags_and_a_revocation_end_connections_at_once(stack: Stack) -> None:
    agent = await stack.agent("spoke-1", "branch")
    assert agent.connection is not None
    connects = agent.connection.connects
    summary = await stack.ask("retag", PeerChange(peer="spoke-1", tags=("hub",), actor="ann"), PeerSummary)
    assert summary.tags == ("hub",)

    async def again() -> bool:
        return agent.connection is not None and agent.connection.connects > connects

    await until(again, "a reconnect")
    me = await agent.ask("whoami", Empty(), Whoami)
    assert me.tags == ("hub",)

    before = time.monotonic()
    await stack.ask("revoke", RevokePeer(peer="spoke-1", actor="ann"), PeerSummary)

    async def gone() -> bool:
        return agent.connection is not None and not agent.connection.is_connected

    await until(gone, "the end of the connection")
    assert time.monotonic() - before < 2.0
    assert await refused(agent.settings)
    assert (await stack.peer("spoke-1")).revoked
    assert "PeerRevoked" not in stack.registry.text()
    revoked = await until(lambda: last_event(stack, "registry.revoked.spoke-1"), "the event")
    assert revoked["actor"] == "ann"


async def test_a_revocation_outlives_every_restart(stack: Stack) -> None:
    agent = await stack.agent("spoke-1", "branch")
    await stack.registry.end(signal.SIGKILL)
    # As if the registry had died between its commit and the KICK.
    stack.database.sql(
        "WITH gone AS (UPDATE registry.peer SET revoked_at = now(), version = 1000 WHERE id = 'spoke-1' RETURNING *) "
        "INSERT INTO registry.revoked_key SELECT nkey, id, version, revoked_at FROM gone; "
        "UPDATE registry.fleet SET revision = 1000"
    )
    assert agent.connection is not None
    assert agent.connection.is_connected
    await stack.registry.start()

    async def gone() -> bool:
        return agent.connection is not None and not agent.connection.is_connected

    await until(gone, "the sweep after the start")
    await stack.callout.end(signal.SIGKILL)
    await stack.callout.start()
    await until(lambda: stack.callout_listens(2), "a new callout")  # until then the server keeps who knocks waiting
    assert await refused(agent.settings)


async def test_presence_follows_heartbeats_and_goodbyes(stack: Stack) -> None:
    agent = await stack.agent("spoke-1", "branch")
    assert agent.connection is not None

    async def is_state(state: PresenceState) -> bool:
        return (await stack.peer("spoke-1")).presence is state

    await agent.beat()
    await until(lambda: is_state(PresenceState.ONLINE), "online")
    assert (await stack.peer("spoke-1")).connections == 1
    twin = await stack.exits.enter_async_context(Connection(agent.settings, name="twin", inbox_prefix=inbox("spoke-1")))
    await twin.wait_connected()

    async def both() -> bool:
        return (await stack.peer("spoke-1")).connections == 2

    await until(both, "the twin's connection")
    await twin.__aexit__(None, None, None)
    assert (await stack.peer("spoke-1")).presence is PresenceState.ONLINE  # one of two was closed: no goodbye
    await agent.beat("stopping")
    await until(lambda: is_state(PresenceState.OFFLINE), "offline by a clean stop", 3.0)
    await agent.beat()
    await until(lambda: is_state(PresenceState.ONLINE), "online again")
    await agent.connection.client.close()
    await until(lambda: is_state(PresenceState.OFFLINE), "offline by a closed connection", 3.0)
    told = await until(lambda: last_event(stack, "registry.presence.spoke-1"), "the event")
    assert told["peer"] == "spoke-1"


async def test_an_operators_token_opens_ops_and_is_known_by_its_hash_only(stack: Stack) -> None:
    command = CreateOperatorToken(name="ann", role=Role.VIEWER)
    token: OperatorToken = await stack.ask("create_operator_token", command, OperatorToken)
    digest = hashlib.sha256(token.token.encode()).hexdigest()
    known = await stack.ask("authenticate", Authenticate(token_sha256=digest), Authenticated)
    assert (known.name, known.role) == ("ann", Role.VIEWER)
    with pytest.raises(WarrenError, match="bearer token"):
        await stack.ask("authenticate", Authenticate(token_sha256="0" * 64), Authenticated)
    client = await nats.connect(stack.bus.url, token=token.token, inbox_prefix="_INBOX.op.ann")
    try:
        with pytest.raises(NatsError):
            await client.request(subjects.rpc("registry", "peers"), b"{}", timeout=0.5)
    finally:
        await client.close()
    assert token.token not in stack.database.sql("SELECT * FROM registry.operator_token")


async def test_everything_returns_in_any_order(stack: Stack) -> None:
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)
    hub = await stack.agent("hub-1", "hub", subnets=["10.0.0.0/16"])
    await hub.leave()
    agent = await stack.agent("spoke-1", "branch", subnets=["10.1.0.0/16"])
    await until(lambda: stack.stored("tag=hub", "spoke-1"), "the first record")

    await asyncio.to_thread(stack.database.stop)
    with pytest.raises(Unavailable, match="PostgreSQL is away"):
        await agent.announce(subnets=["10.9.0.0/16"])
    health = await stack.health()
    assert (health.ready, health.dependencies["postgres"], health.dependencies["nats"]) == (False, False, True)
    assert not await refused(agent.settings)  # the callout goes on from the last known rows
    # From here on the agent knocks only when a callout listens: the server lets who comes earlier wait for half a minute.
    await agent.leave()
    await stack.bus.stop()
    await asyncio.to_thread(stack.database.start)
    await stack.bus.start()
    await stack.ready()
    await until(lambda: stack.callout_listens(2), "the callout again")
    await agent.connect()
    await agent.announce(subnets=["10.9.0.0/16"])

    async def moved() -> bool:
        record = await stack.stored("tag=hub", "spoke-1")
        return record is not None and [str(network) for network in record.subnets] == ["10.9.0.0/16"]

    await until(moved, "the change that could not be made before")
    await agent.leave()
    await stack.bus.kill()
    await asyncio.to_thread(stack.database.kill)
    await stack.bus.start()
    await asyncio.to_thread(stack.database.start)
    await stack.ready()
    await until(lambda: stack.callout_listens(3), "the callout once more")
    await agent.connect()
    await agent.announce(subnets=["10.8.0.0/16"])


async def test_a_lost_stream_is_filled_again(stack: Stack) -> None:
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)
    await stack.agent("hub-1", "hub", subnets=["10.0.0.0/16"])
    await until(lambda: stack.stored("tag=branch", "hub-1"), "the record")
    await stack.bus.stop()
    shutil.rmtree(stack.bus.folder / "store")
    await stack.bus.start()
    await stack.policy.wait_connected()
    await stack.declare_streams()
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)
    await until(lambda: stack.stored("tag=branch", "hub-1"), "the record again")


async def test_no_token_and_no_key_reaches_a_log(stack: Stack) -> None:
    token = await stack.join_token("branch")
    agent = Agent(stack, "spoke-1")
    await agent.enrol(token)
    await agent.connect()
    await refused(agent.settings, token=token)
    operator: OperatorToken = await stack.ask(
        "create_operator_token", CreateOperatorToken(name="ann", role=Role.ADMIN), OperatorToken
    )
    await raw_connect(stack.bus.port, {"auth_token": operator.token})
    with pytest.raises(WarrenError):
        await stack.ask("retag", PeerChange(peer="nobody", tags=()), PeerSummary)
    planted = {token, token.split("_")[2], operator.token, agent.settings.key().seed}
    planted |= {read_seed(path, kind).seed for path, kind in seeds(stack.bus.folder / "keys")}
    logs = stack.registry.text() + stack.callout.text() + stack.bus.log()
    assert "spoke-1" in logs
    assert [secret[:8] for secret in planted if secret in logs] == []


async def test_a_real_feed_holds_what_the_registry_says(stack: Stack) -> None:
    hub, spoke = Agent(stack, "hub-1"), Agent(stack, "spoke-1")
    answers = {
        agent.name: await agent.enrol(await stack.join_token(tag)) for agent, tag in ((hub, "hub"), (spoke, "branch"))
    }
    feeds = {}
    for agent, subnet in ((hub, "10.0.0.0/16"), (spoke, "10.1.0.0/16")):
        await agent.connect()
        await agent.announce(subnets=[subnet])
        feeds[agent.name] = await agent.feed(answers[agent.name])
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)

    def known(name: str) -> dict[str, str]:
        state = feeds[name].state
        return {peer: str(record.subnets[0]) for peer, record in state.directory.items()} if state else {}

    async def both_know() -> bool:
        everybody = {"hub-1": "10.0.0.0/16", "spoke-1": "10.1.0.0/16"}
        return known("hub-1") == known("spoke-1") == everybody

    await until(both_know, "both ends' knowledge of each other")
    await spoke.announce(subnets=["10.7.0.0/16"])

    async def hub_knows() -> bool:
        return known("hub-1").get("spoke-1") == "10.7.0.0/16"

    await until(hub_knows, "the new network at the hub")
    await stack.ask("retag", PeerChange(peer="spoke-1", tags=("other",)), PeerSummary)

    async def apart() -> bool:
        return set(known("hub-1")) == {"hub-1"} and set(known("spoke-1")) == {"spoke-1"}

    await until(apart, "that neither sees the other any more")
    for feed in feeds.values():
        refusals = {name for name, count in feed.machine.counters.items() if count and name.startswith("refused")}
        assert refusals <= {"refused-older-revision"}  # a record that a page has told already arrives once more, live


async def test_a_hostile_peer_does_not_keep_a_fresh_feed_from_completing(stack: Stack) -> None:
    hub, token = Agent(stack, "hub-1"), await stack.join_token("branch", uses=70)
    answer = await hub.enrol(await stack.join_token("hub"))
    await hub.connect()
    await hub.announce(subnets=["10.0.0.0/16"])
    words = tuple(f"{number:064}" for number in range(230))
    names = {f"spoke-{number:02}" for number in range(70)}
    for number, name in enumerate(sorted(names)):
        spoke = Agent(stack, name)
        await spoke.enrol(token)
        await spoke.connect()
        if not number:
            with pytest.raises(InvalidInput, match="capabilities/driver"):
                await spoke.announce(capabilities={"driver": '"' * 258_000})
        await spoke.announce(subnets=[f"10.1.{number}.0/24"], capabilities={"ike": words})  # 70 times 16 kB: two pages
        await spoke.leave()
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)

    async def all_told() -> bool:
        found = await hub.ask("directory", DirectoryPageRequest(reader="tag=hub", after="spoke-68"), DirectoryPage)
        return len(found.records) == 1

    await until(all_told, "the last record")
    feed = await hub.feed(answer)

    async def complete() -> bool:
        return feed.state is not None and set(feed.state.directory) == names | {"hub-1"}

    await until(complete, "a whole directory beside the hostile peer")
    assert not feed.machine.counters["refused-too-large"]
