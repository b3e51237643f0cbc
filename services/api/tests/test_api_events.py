"""Server-sent events: replay, filters, keepalives, clean ends; over a real socket where that matters."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
import uvicorn

from warren_api import sse
from warren_api.bootstrap import ApiServer
from warren_api.ports import StoredEvent
from warren_api.protocol import DeadlineProtocol
from warren_api.routes.system import MAX_OF_ACTOR, parse_last_event_id
from warren_contracts.commands import Role
from warren_contracts.problems import InvalidInputError, UnauthorizedError, UnavailableError
from warren_testkit.api import TOKENS, FakeBus
from warren_testkit.api.application import build_test_app
from warren_testkit.waiting import eventually

TUNNEL = "warren.v1.event.metrics.tunnel.gw1"
POLICY = "warren.v1.event.policy.changed.mesh"


@asynccontextmanager
async def served(bus: FakeBus) -> AsyncIterator[tuple[httpx.AsyncClient, ApiServer]]:
    """The application on a real socket."""
    app = build_test_app(bus)
    config = uvicorn.Config(
        app, port=0, http=DeadlineProtocol, lifespan="off", log_config=None, timeout_graceful_shutdown=3,
        timeout_keep_alive=60,  # s: a client that is busy for a while does not lose its connection
    )  # fmt: skip
    server = ApiServer(config, app.state.parts.stopping)
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    headers = {"authorization": f"Bearer {TOKENS[Role.VIEWER]}"}
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=60
        ) as client:
            yield client, server
    finally:
        server.stop()
        await asyncio.wait_for(serving, 60)


async def events_of(response: httpx.Response, count: int) -> list[dict[str, str]]:
    """The next events of a stream, as their fields."""
    events: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if line == "" and "data" in fields:
            events.append(fields)
            fields = {}
            if len(events) == count:
                break
        elif name in ("id", "event", "data"):
            fields[name] = value
    return events


async def test_a_listener_replays_what_it_missed_and_then_follows() -> None:
    bus = FakeBus()
    for number in range(3):
        await bus.publish(POLICY, "warren.policy.changed.v1", b'{"number": %d}' % number)
    async with (
        served(bus) as (client, _),
        client.stream("GET", "/api/events", headers={"last-event-id": "1"}) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        await bus.publish(TUNNEL, "warren.tunnel.changed.v1", b'{"number": 3}')
        events = await events_of(response, 3)
    assert [it["id"] for it in events] == ["2", "3", "4"]
    body = json.loads(events[2]["data"])
    assert body["data"] == {"number": 3}
    assert body["subject"] == TUNNEL
    assert body["type"] == events[2]["event"] == "warren.tunnel.changed.v1"
    assert body["specversion"] == "1.0"


async def test_a_listener_gets_only_the_kinds_that_it_names() -> None:
    bus = FakeBus()
    await bus.publish(POLICY, "warren.policy.changed.v1", b"{}")
    await bus.publish(TUNNEL, "warren.tunnel.changed.v1", b"{}")
    only: dict[str, str | int] = {"after": 0, "kind": "tunnel"}
    async with served(bus) as (client, _), client.stream("GET", "/api/events", params=only) as response:
        assert [it["id"] for it in await events_of(response, 1)] == ["2"]


async def test_a_stop_ends_open_streams_at_once() -> None:
    async with served(FakeBus()) as (client, server), client.stream("GET", "/api/events") as response:
        chunks = response.aiter_text()
        said = ""
        while ": connected" not in said:
            said += await anext(chunks)
        server.stop()
        rest = "".join([chunk async for chunk in chunks])
        assert "the API server stops" in rest


async def test_invalid_start_positions_are_refused_by_name() -> None:
    async with served(FakeBus()) as (client, _):
        refused = await client.get("/api/events", headers={"last-event-id": "abc"})
        assert refused.json()["errors"][0]["field"] == "Last-Event-ID"
        assert (await client.get("/api/events", params={"after": -1})).json()["errors"][0]["field"] == "after"
        assert (await client.get("/api/events", params={"kind": "a.b"})).json()["errors"][0]["field"] == "kind/0"


@pytest.mark.parametrize("text", [str(2**63), "9" * 5_000, "-1", "²", ""])
def test_a_position_that_no_stream_has_is_refused_by_its_field(text: str) -> None:
    """Of 5,000 digits int() raises another error than of a letter."""
    with pytest.raises(InvalidInputError) as refused:
        parse_last_event_id(text, "cursor")
    assert [it.field for it in refused.value.errors] == ["cursor"]
    assert parse_last_event_id(str(2**63 - 1)) == 2**63 - 1


async def source(*events: StoredEvent | None) -> AsyncGenerator[StoredEvent | None, None]:
    for event in events:
        yield event
    await asyncio.Event().wait()


async def welcome() -> None:
    """A token that stays valid."""


async def test_a_keep_alive_is_a_comment() -> None:
    chunks = sse.stream(source(None, None), asyncio.Event(), welcome)
    assert [await anext(chunks) for _ in range(3)][1:] == [b": connected\n\n", b": alive\n\n"]
    await chunks.aclose()  # type: ignore[attr-defined] # an async generator


async def test_connected_is_sent_when_the_position_is_fixed_and_not_before() -> None:
    held = asyncio.Event()

    async def slow() -> AsyncGenerator[StoredEvent | None, None]:
        await held.wait()
        yield StoredEvent(7, TUNNEL, {}, b"{}")

    chunks = sse.stream(slow(), asyncio.Event(), welcome)
    assert (await anext(chunks)).startswith(b"retry: ")
    coming = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not coming.done()
    held.set()
    assert await coming == b": connected\n\n"
    assert (await anext(chunks)).startswith(b"id: 7\n")
    await chunks.aclose()  # type: ignore[attr-defined] # an async generator


async def test_a_stream_ends_when_its_token_is_removed_but_not_while_the_registry_is_unavailable(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(sse, "RECHECK_SECONDS", 0.0)
    answers: list[Exception] = [UnavailableError("registry"), UnauthorizedError()]

    async def recheck() -> None:
        raise answers.pop(0)

    chunks = [chunk async for chunk in sse.stream(source(None, None, None), asyncio.Event(), recheck)]
    assert chunks[1:] == [b": connected\n\n", b": alive\n\n", b": alive\n\n", b": the token is no longer valid\n\n"]


def test_an_event_cannot_break_out_of_its_lines() -> None:
    event = StoredEvent(7, "s", {"ce-type": "a\nid: 9", "ce-id": "x\r\ny"}, b'{"text": "one\\ntwo"}')
    lines = sse.build_event(event).decode().split("\n")
    assert [line.split(":")[0] for line in lines] == ["id", "event", "data", "", ""]


async def test_one_token_cannot_use_all_event_streams() -> None:
    bus = FakeBus()
    async with served(bus) as (client, _), AsyncExitStack() as stack:
        streams = []
        for _ in range(MAX_OF_ACTOR):
            response = await stack.enter_async_context(client.stream("GET", "/api/events"))
            assert response.status_code == 200
            streams.append(response.aiter_raw())
            await anext(streams[-1])  # it is counted
        refused = await client.get("/api/events")
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:warren:problem:too-many-listeners")
        admin = {"authorization": f"Bearer {TOKENS[Role.ADMIN]}"}
        async with client.stream("GET", "/api/events", headers=admin) as other:
            assert other.status_code == 200
    async with served(bus) as (client, _), client.stream("GET", "/api/events") as again:
        assert again.status_code == 200


async def said_to(client: httpx.AsyncClient, sent: bytes) -> bytes:
    """All that a server says to a client that sends these bytes and no more, until it closes."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(60):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /api/health/live HTTP/1.1\r\nhost: x\r\nx-slow: ",
        b"GET /api/health/live HTTP/1.1\r\nhost: x\r\n\r\nGET /api/",
        b"POST /api/peers/register HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{",
    ],
    ids=["nothing", "half headers", "half headers on a kept connection", "half a body"],
)
async def test_a_half_sent_request_is_closed_in_time(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    async with served(FakeBus()) as (client, server):
        with monkeypatch.context() as patch:  # for this connection only: any other client may be slower than that, too
            patch.setattr(DeadlineProtocol, "header_seconds", 0.2)
            patch.setattr(DeadlineProtocol, "body_seconds", 0.2)
            patch.setattr(server.config, "timeout_keep_alive", 1)
            said = await said_to(client, sent)
        assert said.startswith(b"HTTP/1.1 ")
        if b"register" not in sent:
            assert b"request-too-slow" in said
        async with client.stream("GET", "/api/events") as listening:
            await anext(listening.aiter_raw())
            (connection,) = server.server_state.connections
            assert connection._deadline is None  # type: ignore[union-attr]  # a long answer is not late
            assert (await client.get("/api/health/live")).status_code == 200


async def test_connections_beyond_the_limit_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeadlineProtocol, "max_connections", 1)
    async with served(FakeBus()) as (client, _):
        assert (await client.get("/api/health/live")).status_code == 200  # holds the only place
        said = await said_to(client, b"")
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"Too many connections" in said
        assert (await client.get("/api/health/live")).status_code == 200


async def test_connections_of_one_address_are_limited_and_those_of_a_trusted_proxy_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DeadlineProtocol, "max_of_address", 1)
    async with served(FakeBus()) as (client, _):
        assert (await client.get("/api/health/live")).status_code == 200  # holds the only place
        said = await said_to(client, b"")
        assert said.startswith(b"HTTP/1.1 429 ")
        assert b"WARREN_TRUSTED_PROXIES" in said
        monkeypatch.setattr(DeadlineProtocol, "proxies", (ip_network("127.0.0.0/8"),))
        said = await said_to(client, b"GET /api/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "first", [b"content-length: 5\r\ntransfer-encoding: chunked", b"transfer-encoding: chunked\r\ncontent-length: 5"]
)
async def test_a_request_with_two_lengths_is_refused_and_its_connection_closed(first: bytes) -> None:
    """What a proxy takes for the rest of one request would be the next one here."""
    async with served(FakeBus()) as (client, _):
        smuggled = b"0\r\n\r\nGET /api/health/live HTTP/1.1\r\nhost: x\r\n\r\n"
        said = await said_to(client, b"POST /api/policies HTTP/1.1\r\nhost: x\r\n" + first + b"\r\n\r\n" + smuggled)
        assert said.startswith(b"HTTP/1.1 400 ")
        assert said.count(b"HTTP/1.1 ") == 1
        assert b"ambiguous-length" in said
