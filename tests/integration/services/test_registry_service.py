"""The registry and the auth callout as processes, on a real nats-server and a real PostgreSQL."""

import asyncio
import base64
import shutil
import signal

import pytest

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.rpc import exchange
from warren_contracts import subjects
from warren_contracts.commands import (
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
from warren_contracts.documents import Whoami
from warren_contracts.peers import PeerSummary, PresenceState
from warren_contracts.problems import InvalidInputError, UnavailableError, WarrenError
from warren_contracts.telemetry import OFFLINE_AFTER
from warren_contracts.tokens import trust_anchors
from warren_testkit.registry.stack import HUB_SPOKE, Agent, Stack, last_event, raw_connect, refused, seeds, until
from warren_trust.keys import read_seed
from warren_trust.signing import Verifier, parse_signed, verify_trust

AT_ONCE = OFFLINE_AFTER * 0.7  # s: what is offline earlier is not so for want of heartbeats


async def test_a_host_joins_by_token_and_is_a_peer_afterwards(stack: Stack) -> None:
    token = await stack.join_token("branch", subnets=["10.2.0.0/16"])
    agent = Agent(stack, "spoke-1")
    answer = await agent.enrol(token)
    assert (answer.peer, answer.tags, answer.epoch) == ("spoke-1", ("branch",), 1)
    assert base64.b64decode(answer.root) == trust_anchors(token).root
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
    with pytest.raises(InvalidInputError, match="not within the networks that the join token allows"):
        await agent.announce(subnets=["10.3.0.0/16"])
    listed = await stack.ask("peers", Page(), PeerList)
    assert [peer.peer for peer in listed.peers] == ["spoke-1"]
    assert str(listed.peers[0].record.subnets[0]) == "10.2.1.0/24"
    fleet = await stack.ask("directory", Page(), FleetDirectory)
    assert (fleet.tags, [record.peer for record in fleet.peers]) == (("branch",), ["spoke-1"])


async def test_new_tags_and_a_revocation_end_connections_at_once(stack: Stack) -> None:
    agent = await stack.agent("spoke-1", "branch")
    assert agent.connection is not None
    connects = agent.connection.connects
    summary = await stack.ask("retag", PeerChange(peer="spoke-1", tags=("hub",), actor="ann"), PeerSummary)
    assert summary.tags == ("hub",)

    async def again() -> bool:
        return agent.connection is not None and agent.connection.connects > connects

    await until(again, what="a reconnect")
    me = await agent.ask("whoami", Empty(), Whoami)
    assert me.tags == ("hub",)

    await stack.ask("revoke", RevokePeer(peer="spoke-1", actor="ann"), PeerSummary)

    async def gone() -> bool:
        return agent.connection is not None and not agent.connection.is_connected

    await until(
        gone, what="the end of the connection", limit_s=20.0
    )  # a sweep, which would end it too, comes once a minute
    assert await refused(agent.settings)
    assert (await stack.peer("spoke-1")).revoked
    assert "PeerRevoked" not in stack.registry.text()
    revoked = await until(lambda: last_event(stack, "registry.revoked.spoke-1"), what="the event")
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

    await until(gone, what="the sweep after the start")
    await stack.callout.end(signal.SIGKILL)
    await stack.callout.start()
    await until(
        lambda: stack.callout_listens(2), what="a new callout"
    )  # until then the server keeps new connections waiting
    assert await refused(agent.settings)


async def test_presence_follows_heartbeats_and_goodbyes(stack: Stack) -> None:
    agent = await stack.agent("spoke-1", "branch")
    assert agent.connection is not None

    async def is_state(state: PresenceState) -> bool:
        return (await stack.peer("spoke-1")).presence is state

    await agent.beat()
    await until(lambda: is_state(PresenceState.ONLINE), what="online")
    assert (await stack.peer("spoke-1")).connections == 1
    twin = await stack.exits.enter_async_context(Connection(agent.settings, name="twin", inbox_prefix=inbox("spoke-1")))
    await twin.wait_connected()

    async def both() -> bool:
        return (await stack.peer("spoke-1")).connections == 2

    await until(both, what="the twin's connection")
    await twin.__aexit__(None, None, None)
    assert (await stack.peer("spoke-1")).presence is PresenceState.ONLINE  # one of two was closed: no goodbye
    await agent.beat("stopping")
    await until(lambda: is_state(PresenceState.OFFLINE), what="offline by a clean stop", limit_s=AT_ONCE)
    await agent.beat()
    await until(lambda: is_state(PresenceState.ONLINE), what="online again")
    await agent.connection.client.close()
    await until(lambda: is_state(PresenceState.OFFLINE), what="offline by a closed connection", limit_s=AT_ONCE)
    event = await until(lambda: last_event(stack, "registry.presence.spoke-1"), what="the event")
    assert event["peer"] == "spoke-1"


async def test_everything_returns_in_any_order(stack: Stack) -> None:
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)
    hub = await stack.agent("hub-1", "hub", subnets=["10.0.0.0/16"])
    await hub.leave()
    agent = await stack.agent("spoke-1", "branch", subnets=["10.1.0.0/16"])
    await until(lambda: stack.stored("tag=hub", "spoke-1"), what="the first record")

    await asyncio.to_thread(stack.database.stop)
    with pytest.raises(UnavailableError, match="PostgreSQL is unavailable"):
        await agent.announce(subnets=["10.9.0.0/16"])
    health = await stack.health()
    assert (health.ready, health.dependencies["postgres"], health.dependencies["nats"]) == (False, False, True)
    assert not await refused(agent.settings)  # the callout goes on from the last known rows
    # From here on the agent reconnects only when a callout listens: the server keeps earlier connections waiting for half a minute.
    await agent.leave()
    await stack.bus.stop()
    await asyncio.to_thread(stack.database.start)
    await stack.bus.start()
    await stack.ready()
    await until(lambda: stack.callout_listens(2), what="the callout again")
    await agent.connect()
    await agent.announce(subnets=["10.9.0.0/16"])

    async def moved() -> bool:
        record = await stack.stored("tag=hub", "spoke-1")
        return record is not None and [str(network) for network in record.subnets] == ["10.9.0.0/16"]

    await until(moved, what="the change that could not be made before")
    await agent.leave()
    await stack.bus.kill()
    await asyncio.to_thread(stack.database.kill)
    await stack.bus.start()
    await asyncio.to_thread(stack.database.start)
    await stack.ready()
    await until(lambda: stack.callout_listens(3), what="the callout once more")
    await agent.connect()
    await agent.announce(subnets=["10.8.0.0/16"])


async def test_a_lost_stream_is_filled_again(stack: Stack) -> None:
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)
    await stack.agent("hub-1", "hub", subnets=["10.0.0.0/16"])
    await until(lambda: stack.stored("tag=branch", "hub-1"), what="the record")
    await stack.bus.stop()
    shutil.rmtree(stack.bus.folder / "store")
    await stack.bus.start()
    await stack.policy.wait_connected()
    await stack.declare_streams()
    await stack.publish_policies(("tag=hub", "tag=branch"), HUB_SPOKE)
    await until(lambda: stack.stored("tag=branch", "hub-1"), what="the record again")


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
