"""Who called, on a real server: named whatever little a caller sends, and not forged by malformed headers."""

import asyncio
import json

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from warren_contracts import subjects
from warren_contracts.commands import Role
from warren_contracts.problems import ForbiddenError
from warren_service.callers import Caller, parse_caller, require_agent
from warren_testkit.bus.accounts import Bus
from warren_testkit.waiting import eventually

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
    "a status that is not text": b"NATS/1.0 \xff\xff\xff\r\n\r\n",
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


async def received_by_both(bus: Bus, block: bytes | None, as_agent: bytes | None) -> tuple[Msg, Msg]:
    """What policy receives of an operator that sends this block, and the registry of an agent."""
    operator, agent = await bus.operator("ann", Role.OPERATOR), await bus.agent("gw1", "hub")
    received: list[Msg] = []

    async def note(message: Msg) -> None:
        received.append(message)

    policy = bus.live.client("policy")
    await policy.subscribe("warren.v1.ops.policy.apply", cb=note)
    await policy.flush()
    await call_raw(operator, subjects.rpc("policy", "apply"), block)
    await eventually(lambda: bool(received), what="the operator's call")
    await call_raw(agent, subjects.rpc_agent("gw1", "whoami"), as_agent)
    await eventually(lambda: bool(bus.live.received), what="the agent's call")
    return received[0], bus.live.received[0]


@pytest.mark.parametrize("name", HONEST_BLOCKS)
async def test_a_caller_of_ops_and_agents_is_named_whatever_little_it_sends(bus: Bus, name: str) -> None:
    of_operator, of_agent = await received_by_both(bus, HONEST_BLOCKS[name], HONEST_BLOCKS[name])
    assert parse_caller(of_operator.headers) == Caller("OPS", "op.ann")
    assert parse_caller(of_agent.headers) == Caller("AGENTS", "gw1")


@pytest.mark.parametrize("name", FORGED_BLOCKS)
async def test_a_caller_that_hides_in_malformed_headers_is_refused(bus: Bus, name: str) -> None:
    block = FORGED_BLOCKS[name]
    as_agent = block.replace(b"OPS", b"AGENTS").replace(b"op.admin", b"gw1")
    of_operator, of_agent = await received_by_both(bus, block, as_agent)
    with pytest.raises(ForbiddenError, match="headers"):
        parse_caller(of_operator.headers)
    with pytest.raises(ForbiddenError):
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
    async with asyncio.timeout(60):
        while b"last" not in arrived:
            arrived += [message.data for message in await pull.fetch(20, timeout=60)]
    assert bus.live.connections["metrics"].is_connected
