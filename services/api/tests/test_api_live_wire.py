"""The live view over HTTP: server-sent events and the WebSocket, on a real socket."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, RejectData, Request, TextMessage

from warren_api.scope import rules
from warren_contracts.commands import Role
from warren_testkit.api import TOKENS
from warren_testkit.api.client import Client, problem
from warren_testkit.api.live import LiveApi
from warren_testkit.api.world import TOKENS_OF, live_world, two_customers


def test_the_questions_are_checked_before_a_stream_opens() -> None:
    async def ask() -> None:
        api = Client(live_world())
        for query, field in (
            ("state=lost", "state/0"),
            ("peer=A", "peer/0"),
            ("cursor=x", "cursor"),
            ("after=1", "after"),
        ):
            refused = problem(await api.get(f"/api/live?{query}"), 422, "invalid-input")
            assert [it["field"] for it in refused["errors"]] == [field], query

    asyncio.run(ask())


def test_server_sent_events_resume_by_their_id() -> None:
    with LiveApi(bus=live_world()) as api:
        headers = {"authorization": f"Bearer {TOKENS[Role.VIEWER]}"}

        def read(count: int, **extra: str) -> list[dict[str, str]]:
            found: list[dict[str, str]] = []
            with httpx.stream(
                "GET", f"{api.url}/api/live", headers=headers | extra, trust_env=False, timeout=60
            ) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                event: dict[str, str] = {}
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if line and name:
                        event[name] = value
                    elif event.get("event"):
                        found.append(event)
                        event = {}
                    if len(found) == count:
                        break
            return found

        parts, ready = read(3)[:2], read(3)[2]
        assert [it["event"] for it in parts] == ["snapshot", "snapshot"]
        assert (ready["event"], ready["id"]) == ("ready", "0")
        api.publish("tunnel", {})
        assert httpx.get(f"{api.url}/api/live", trust_env=False, timeout=60).status_code == 401


class Socket:
    """A WebSocket client without any library's loop: frames by wsproto over asyncio."""

    def __init__(self, url: str, query: str, **headers: str) -> None:
        self._host, self._port = url.removeprefix("http://").split(":")
        self._query = query
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._connection = WSConnection(ConnectionType.CLIENT)

    async def open(self) -> "Socket":
        self._reader, self._writer = await asyncio.open_connection(self._host, int(self._port))
        self.send(
            Request(host=f"{self._host}:{self._port}", target=f"/api/live{self._query}", extra_headers=self._headers)
        )
        return self

    def send(self, event: Any) -> None:
        self._writer.write(self._connection.send(event))

    async def events(self) -> AsyncGenerator[Any, None]:
        try:
            while True:
                data = await asyncio.wait_for(self._reader.read(65_536), 60)
                self._connection.receive_data(data or None)
                for event in self._connection.events():
                    yield event
                if not data:
                    return
        finally:
            self._writer.close()


async def _first(socket: Socket, kind: type) -> Any:
    text = ""
    async with aclosing(socket.events()) as events:
        async for event in events:
            if isinstance(event, TextMessage):
                text += event.data
                if event.message_finished and kind is TextMessage:
                    return json.loads(text)
            elif isinstance(event, kind):
                return event
    raise AssertionError(f"no {kind.__name__}")


def test_a_web_socket_has_the_same_messages_and_refuses_with_problems() -> None:
    token = f"Bearer {TOKENS[Role.VIEWER]}"

    async def ask(url: str, query: str, kind: type, **headers: str) -> Any:
        return await _first(await Socket(url, query, **headers).open(), kind)

    with LiveApi(bus=live_world()) as api:
        message = asyncio.run(ask(api.url, "?peer=spoke-1", TextMessage, authorization=token))
        assert (message["kind"], [it["peer"] for it in message["peers"]]) == ("snapshot", ["spoke-1"])
        for query, headers, status in (
            ("", {}, 401),
            ("?state=lost", {"authorization": token}, 422),
            ("?after=1", {"authorization": token}, 422),
            ("", {"authorization": token, "origin": "https://attacker.example"}, 403),
        ):
            rejected: RejectConnection = asyncio.run(ask(api.url, query, RejectConnection, **headers))
            assert rejected.status_code == status

        async def talk() -> CloseConnection:
            socket = await Socket(api.url, "", authorization=token).open()
            accepted = await _accepted(socket)
            assert isinstance(accepted, AcceptConnection)
            socket.send(TextMessage("hello"))
            found: CloseConnection = await _first(socket, CloseConnection)
            return found

        closed = asyncio.run(talk())
        assert (closed.code, closed.reason) == (1008, "this stream takes no messages: filter by the query")


async def _accepted(socket: Socket) -> Any:
    data = await asyncio.wait_for(socket._reader.readuntil(b"\r\n\r\n"), 60)
    socket._connection.receive_data(data)
    return next(event for event in socket._connection.events() if not isinstance(event, RejectData))


def test_a_web_socket_of_a_scope_has_that_part_of_the_fleet_and_a_route_without_a_rule_refuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = f"Bearer {TOKENS_OF[Role.VIEWER]}"

    async def ask(url: str, query: str, kind: type) -> Any:
        return await _first(await Socket(url, query, authorization=token).open(), kind)

    with LiveApi(bus=two_customers()) as api:
        for query in ("", "?cursor=0", "?peer=b-1&peer=a-1"):
            message = asyncio.run(ask(api.url, query, TextMessage))
            assert {it["peer"] for it in message["peers"]} <= {"a-1", "a-2"}
            assert "b-1" not in json.dumps(message)
        monkeypatch.setattr(rules, "RULES", {})
        rejected: RejectConnection = asyncio.run(ask(api.url, "", RejectConnection))
        assert rejected.status_code == 403
