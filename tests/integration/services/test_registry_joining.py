"""Who may come in: hosts that join by token, connections that prove nothing, operators; on the real registry and callout."""

import base64
import hashlib
import json
from functools import partial

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from pydantic import BaseModel

from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.rpc import call, exchange
from warren_bus.settings import BusSettings
from warren_contracts import subjects
from warren_contracts.authentication import Authenticate, Authenticated
from warren_contracts.commands import (
    CreateOperatorToken,
    Empty,
    OperatorToken,
    Page,
    PeerList,
    Role,
)
from warren_contracts.documents import DirectoryPage, DirectoryPageRequest, Whoami
from warren_contracts.peers import PeerSummary
from warren_contracts.problems import ConflictError, ForbiddenError, InvalidInputError, UnavailableError, WarrenError
from warren_contracts.tokens import join_token_text
from warren_testkit.bus.plain_client import plain_client
from warren_testkit.registry.stack import Agent, Stack, raw_connect, refused
from warren_testkit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """One for all tests here, whose names differ."""
    return shared_stack


async def test_a_lost_reply_is_repeated_and_another_key_is_a_conflict(stack: Stack) -> None:
    token = await stack.join_token("branch")
    agent = Agent(stack, "lost-1")
    first = await agent.enrol(token)
    assert await agent.enrol(token) == first
    other = Agent(stack, "lost-1")
    with pytest.raises(ConflictError, match="belongs to another key"):
        await other.enrol(await stack.join_token("branch"))
    with pytest.raises(ConflictError, match="enrolled as lost-1"):
        await agent.enrol(await stack.join_token("branch"), peer="lost-2")


async def test_connections_that_prove_nothing_are_refused(stack: Stack) -> None:
    agent = await stack.agent("unproven-1", "branch")
    await agent.leave()
    unknown, _ = stack.bus.new_agent("unknown")
    assert await refused(unknown)  # an unknown key
    public = agent.settings.key().public

    assert await raw_connect(stack.bus.port, {"nkey": public}) == "Authorization Violation"
    assert await raw_connect(stack.bus.port, {"nkey": public, "sig": "AAAA"}) == "Authorization Violation"
    bad = base64.b64encode(b"\x00" * 64).decode()
    assert await raw_connect(stack.bus.port, {"nkey": public, "sig": bad}) == "Authorization Violation"
    assert await raw_connect(stack.bus.port, {}) == "Authorization Violation"
    assert await raw_connect(stack.bus.port, {}, sign=agent.settings.key()) == "ok"
    assert await raw_connect(stack.bus.port, {"nkey": public}, sign=unknown.key()) == "Authorization Violation"


async def test_tokens_that_are_spent_or_unknown_are_refused(stack: Stack) -> None:
    token = await stack.join_token("branch")
    await Agent(stack, "late-1").enrol(token)
    late = Agent(stack, "late-2")
    assert await refused(late.settings, token=token)
    assert await refused(late.settings, token=join_token_text("a" * 16, "a" * 52, bytes(32)))
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
        with pytest.raises(InvalidInputError) as refusal:
            await exchange(client, subjects.rpc_enrol(agent.nkey), request)
        assert [error.field for error in refusal.value.errors] == ["peer"]
        assert token not in str(refusal.value)
    with pytest.raises(InvalidInputError):
        await stack.ask("retag", RawCommand(peer="odd", tags=[">"]), PeerSummary)


class RawCommand(BaseModel):
    """A command that our own models would not let out."""

    peer: str
    tags: list[str]


async def test_an_agent_cannot_call_as_another(stack: Stack) -> None:
    one = await stack.agent("other-1", "branch")
    await stack.agent("other-2", "branch")
    assert one.connection is not None
    for subject in (
        subjects.rpc_agent("other-2", "whoami"),
        subjects.rpc("registry", "peers"),
        subjects.rpc_enrol(one.nkey),
    ):
        with pytest.raises(UnavailableError):
            await call(one.connection.client, subject, Empty(), Whoami, timeout=0.5)
    with pytest.raises(ForbiddenError, match="does not read tag=hub"):
        await one.ask("directory", DirectoryPageRequest(reader="tag=hub"), DirectoryPage)
    forged = {"Nats-Request-Info": json.dumps({"acc": "AGENTS", "user": "other-2"})}
    answer = await one.connection.client.request(
        subjects.rpc_agent("other-1", "whoami"), b"{}", headers=forged, timeout=60
    )
    assert json.loads(answer.data)["peer"] == "other-1"


async def test_an_operators_token_opens_ops_and_is_known_by_its_hash_only(stack: Stack) -> None:
    command = CreateOperatorToken(name="ann", role=Role.VIEWER)
    token: OperatorToken = await stack.ask("create_operator_token", command, OperatorToken)
    digest = hashlib.sha256(token.token.encode()).hexdigest()
    known = await stack.ask("authenticate", Authenticate(token_sha256=digest), Authenticated)
    assert (known.name, known.role) == ("ann", Role.VIEWER)
    with pytest.raises(WarrenError, match="bearer token"):
        await stack.ask("authenticate", Authenticate(token_sha256="0" * 64), Authenticated)
    connecting = partial(plain_client, stack.bus.url, token=token.token, inbox_prefix="_INBOX.op.ann")
    client: Client = await eventually(connecting)
    try:
        listed = await client.request(subjects.rpc("registry", "peers"), b"{}", timeout=60)
        assert PeerList.model_validate_json(listed.data) == await stack.ask("peers", Page(), PeerList)
        with pytest.raises(NatsError):
            await client.request(subjects.rpc("registry", "join_tokens"), b"{}", timeout=0.5)
    finally:
        await client.close()
    assert token.token not in stack.database.sql("SELECT * FROM registry.operator_token")
