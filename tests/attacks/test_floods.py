"""F4, F5 and F6: one peer, one join token or one viewer takes what all others need.

Effects are counted, not timed: how often a handler ran for the attacker, and that the others were answered.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pytest
from faststream import Path as SubjectPath
from faststream.nats import NatsMessage
from nats.aio.client import Client

from warren_bus import rpc
from warren_bus.headers import header
from warren_callout.domain.admission import (
    ENROLLING,
    JoinCredential,
    JoinTokenState,
    KeyStatus,
    admit_joining,
)
from warren_callout.handlers import JOIN_BURST, JOIN_RATE
from warren_contracts import subjects
from warren_contracts.commands import ApplyPolicies, Empty, Page, Role
from warren_contracts.peers import Announcement
from warren_contracts.problems import CONTENT_TYPE, Problem
from warren_contracts.tokens import new_join_token, parse_join_token
from warren_contracts.verbs import of_operators
from warren_service.broker import Broker, build_broker, reply
from warren_service.call_budget import (
    AGENT_BURST,
    LIMITS,
    OPERATOR_BURST,
    REPLY_BURST,
    CallBudget,
    CallSource,
    parse_source,
)
from warren_service.callers import require_agent
from warren_testkit.bus.accounts import Bus
from warren_testkit.waiting import eventually
from warren_trust.keys import KeyKind, KeyPair


@dataclass
class Executed:
    """What reached the handlers, by caller and verb."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)


@pytest.fixture(autouse=True)
def one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes for the budgets: how many calls they allow does not depend on how long a flood takes."""
    refuse = CallBudget.refuse
    monkeypatch.setattr(CallBudget, "refuse", lambda budget, source, size, now: refuse(budget, source, size, 0.0))


@pytest.fixture
async def registry(bus: Bus) -> AsyncIterator[Executed]:
    """The agents' RPC of a registry, behind the real broker, on a slow database of one connection."""
    executed = Executed()
    database = asyncio.Semaphore(1)
    broker: Broker = build_broker(bus.server.settings("registry"), "registry")
    await bus.live.connections["registry"].__aexit__(None, None, None)  # the fleet of the fixture answers, too

    @broker.subscriber("warren.v1.rpc.agent.{peer}.whoami", queue="registry", max_workers=16)
    async def whoami(command: Empty, message: NatsMessage, peer: Annotated[str, SubjectPath()]) -> object:
        require_agent(message.headers, peer)
        async with database:
            await asyncio.sleep(0.002)
        executed.calls[peer, "whoami"] += 1
        return reply(Empty())

    @broker.subscriber("warren.v1.rpc.agent.{peer}.announce", queue="registry", max_workers=16)
    async def announce(command: Announcement, message: NatsMessage, peer: Annotated[str, SubjectPath()]) -> object:
        executed.calls[peer, "announce"] += 1
        return reply(Empty())

    await broker.start()
    await broker.client.flush()
    yield executed
    await broker.stop()


@pytest.fixture
async def policy(bus: Bus) -> AsyncIterator[Executed]:
    executed = Executed()
    broker: Broker = build_broker(bus.server.settings("policy"), "policy")

    @broker.subscriber(subjects.rpc_of_operators("policy", "list"), queue="policy")
    async def list_(command: Page, message: NatsMessage) -> object:
        executed.calls["list", ""] += 1
        return reply(Empty())

    @broker.subscriber(subjects.rpc_of_operators("policy", "apply"), queue="policy")
    async def apply(command: ApplyPolicies) -> object:
        executed.calls["apply", ""] += 1
        return reply(Empty())

    await broker.start()
    await broker.client.flush()
    yield executed
    await broker.stop()


async def flood(client: Client, subject: str, payload: bytes, count: int) -> None:
    inbox = f"{client._inbox_prefix.decode()}.flood"
    for number in range(count):
        await client.publish(subject, payload, reply=inbox)
        if number % 500 == 499:
            await client.flush(60)
    await client.flush(60)


async def status_of(client: Client, subject: str, payload: bytes) -> int:
    answer = await client.request(subject, payload, timeout=60)
    refused = header(answer.headers, "content-type") == CONTENT_TYPE
    return Problem.model_validate_json(answer.data).status if refused else 200


async def test_a_flood_of_one_peer_is_not_executed_and_others_are_answered(bus: Bus, registry: Executed) -> None:
    attacker, honest = await bus.agent("gw1", "hub"), await bus.agent("gw2", "hub")
    whoami = subjects.rpc_agent("gw1", "whoami")
    flooding = asyncio.create_task(flood(attacker, whoami, b"{}", 10_000))
    for _ in range(5):
        await rpc.call(honest, subjects.rpc_agent("gw2", "whoami"), Empty(), Empty, timeout=60)
    await flooding
    await rpc.call(honest, subjects.rpc_agent("gw2", "whoami"), Empty(), Empty, timeout=60)
    assert registry.calls["gw2", "whoami"] == 6
    assert registry.calls["gw1", "whoami"] <= AGENT_BURST


async def test_one_budget_counts_all_verbs_of_a_peer(bus: Bus, registry: Executed) -> None:
    attacker = await bus.agent("gw1", "hub")
    for verb in ("whoami", "announce"):
        await flood(attacker, subjects.rpc_agent("gw1", verb), b"{}", 2_000)
    honest = await bus.agent("gw2", "hub")
    assert await status_of(honest, subjects.rpc_agent("gw2", "whoami"), b"{}") == 200
    assert sum(registry.calls.values()) <= AGENT_BURST + 1


@pytest.mark.parametrize("verb", ["whoami", "announce"])
async def test_a_large_request_of_a_peer_is_refused_before_it_is_parsed(
    bus: Bus, registry: Executed, verb: str
) -> None:
    attacker = await bus.agent("gw1", "hub")
    payload = json.dumps({f"key{number}": 0 for number in range(30_000)}).encode()
    assert len(payload) < 512 * 1024
    assert await status_of(attacker, subjects.rpc_agent("gw1", verb), payload) == 429
    assert registry.calls["gw1", verb] == 0
    assert await status_of(attacker, subjects.rpc_agent("gw1", "whoami"), b"{}") == 200


async def test_a_viewer_on_the_bus_has_limits_too(bus: Bus, policy: Executed) -> None:
    viewer = await bus.operator("ann", Role.VIEWER)
    other = await bus.operator("bob", Role.VIEWER)
    subject = subjects.rpc("policy", "list")
    assert await status_of(viewer, subject, json.dumps({f"k{n}": 0 for n in range(20_000)}).encode()) == 429
    await flood(viewer, subject, b"{}", 3_000)
    assert await status_of(other, subject, b"{}") == 200
    assert policy.calls["list", ""] <= OPERATOR_BURST + 1


async def test_refusals_do_not_amplify_a_flood(bus: Bus, registry: Executed) -> None:
    attacker = await bus.agent("gw1", "hub")
    received: list[bytes] = []

    async def note(message: Any) -> None:
        received.append(message.data)

    await attacker.subscribe(f"{attacker._inbox_prefix.decode()}.flood", cb=note)
    await flood(attacker, subjects.rpc_agent("gw1", "whoami"), b"{}", 5_000)
    await eventually(lambda: len(received) >= AGENT_BURST, what="the answers")
    problems = [data for data in received if b"limit-exceeded" in data]
    assert len(problems) <= REPLY_BURST


def test_every_call_from_outside_has_a_limit_of_its_own() -> None:
    for subject in (subjects.rpc_agent("gw1", verb) for verb in ("whoami", "announce", "directory")):
        source = parse_source(subject)
        assert source is not None
        assert (source.kind, source.verb) in LIMITS
    for command in of_operators():
        source = parse_source(subjects.rpc_of_operators(command.service, command.verb), "op.ann")
        assert source == CallSource("ops", "op.ann", command.verb)
        assert (source.kind, source.verb) in LIMITS
    assert parse_source(subjects.rpc("policy", "apply")) is None


def test_bytes_count_as_calls() -> None:
    budget, source, accepted = CallBudget(), CallSource("ops", "op.ann", "apply"), 0
    while budget.refuse(source, 900_000, 0.0) is None:
        accepted += 1
    assert accepted == OPERATOR_BURST // 55
    assert budget.refuse(CallSource("ops", "op.bob", "apply"), 900_000, 0.0) is None


def test_a_connection_to_enrol_ends_within_a_minute_and_with_its_token() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    new = new_join_token(lambda size: b"x" * size, b"r" * 32)
    presented = parse_join_token(new.text)
    nkey = KeyPair.generate(KeyKind.USER).public
    for left, lifetime in ((3_600, ENROLLING), (20, timedelta(seconds=20)), (61, ENROLLING)):
        stored = JoinTokenState(presented.id, new.digest, 5, 0, now + timedelta(seconds=left))
        grant = admit_joining(JoinCredential(nkey, presented), stored, KeyStatus(nkey), now)
        assert grant.expires_at == now + lifetime
        assert grant.join_token == presented.id


def test_one_token_has_a_small_part_of_the_connections() -> None:
    connections_of_account = 15_000
    assert JOIN_BURST + JOIN_RATE * ENROLLING.total_seconds() < connections_of_account / 50
