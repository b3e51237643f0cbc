"""The gateway on a real nats-server: calls, events, and what happens when the server is stopped, killed and returns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.aio.msg import Msg

from warren_api.adapters.callout_probe import callout_answers
from warren_api.adapters.nats_bus import NatsBus
from warren_api.app import build_app
from warren_api.ports import StoredEvent
from warren_bus.client_subjects import inbox
from warren_bus.connection import Connection
from warren_bus.publisher import EventPublisher
from warren_contracts.commands import ApplyPolicies, ApplyReply, Page, PolicyList, Role
from warren_contracts.events import PolicyChanged
from warren_contracts.policy import Policy
from warren_contracts.problems import CONTENT_TYPE, InvalidInputError, WarrenError
from warren_contracts.verbs import COMMANDS
from warren_service.streams import EVENT
from warren_testkit.api import NOW, TOKENS, FakeBus
from warren_testkit.bus import GrantingCallout, RealServer
from warren_testkit.bus.streams import declare_streams
from warren_testkit.waiting import eventually


class Services:
    """Registry, policy and metrics, each as its own bus user, answering from memory."""

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self.memory = FakeBus()
        self.connections = {
            name: Connection(server.settings(name), name=name, inbox_prefix=inbox(name))
            for name in ("registry", "policy", "metrics")
        }
        self._served: dict[str, object] = {}

    async def start(self, stack: AsyncExitStack) -> None:
        for name, connection in self.connections.items():
            await stack.enter_async_context(connection)
            await connection.wait_connected()
            await self._serve(name)
            connection.on_connected(partial(self._serve, name))
        await declare_streams(self._server, EVENT)

    async def _serve(self, name: str) -> None:
        client = self.connections[name].client
        if self._served.get(name) is client:
            return
        self._served[name] = client
        await client.subscribe(f"warren.v1.rpc.{name}.*", cb=partial(self._answer, name))
        await client.flush()

    async def _answer(self, name: str, message: Msg) -> None:
        verb = message.subject.rsplit(".", 1)[1]
        command = next(it for it in COMMANDS if (it.service, it.verb) == (name, verb))
        headers: dict[str, str] | None = None
        try:
            request = command.request.model_validate_json(message.data)
            answer = (await self.memory.call(name, verb, request, command.reply)).model_dump_json()
        except WarrenError as error:
            answer, headers = error.problem().model_dump_json(), {"content-type": CONTENT_TYPE}
        await self.connections[name].client.publish(message.reply, answer.encode(), headers=headers)

    async def publish(self, policy: str) -> None:
        """Publish an event of the policy service."""
        publisher = EventPublisher(lambda: self.connections["policy"].client, "/services/policy")
        event = PolicyChanged(policy=policy, action="created", revision=1, version=1, actor="me", at=NOW)
        await publisher.publish(f"warren.v1.event.policy.changed.{policy}", PolicyChanged.TYPE, event)


@asynccontextmanager
async def api_server(folder: Path) -> AsyncIterator[tuple[RealServer, Services, NatsBus, httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(RealServer(folder))
        await stack.enter_async_context(GrantingCallout(server))
        services = Services(server)
        await services.start(stack)
        connection = Connection(server.settings("api"), name="api", inbox_prefix=inbox("api"))
        await stack.enter_async_context(connection)
        await connection.wait_connected()
        bus = NatsBus(connection, server.settings("api"))
        headers = {"authorization": f"Bearer {TOKENS[Role.ADMIN]}"}
        transport = httpx.ASGITransport(app=build_app(bus))
        api = httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers)
        yield server, services, bus, await stack.enter_async_context(api)


async def next_events(events: Any, count: int, limit: float = 60.0) -> list[StoredEvent]:
    found: list[StoredEvent] = []
    async with asyncio.timeout(limit):
        while len(found) < count:
            event = await anext(events)
            if event is not None:
                found.append(event)
    return found


async def is_ready(api: httpx.AsyncClient) -> bool:
    return bool((await api.get("/api/health")).json()["ready"])


async def is_up(api: httpx.AsyncClient, part: str) -> bool:
    return bool((await api.get("/api/health")).json()["dependencies"][part])


def policies(events: list[StoredEvent]) -> list[str]:
    return [event.subject.rsplit(".", 1)[1] for event in events]


async def test_a_policy_is_stored_over_the_real_bus_and_problems_come_back(tmp_path: Path) -> None:
    mesh = {"id": "mesh", "topology": {"kind": "mesh", "members": ["all"]}}
    async with api_server(tmp_path) as (_, _, _, api):
        assert (await api.post("/api/policies", json=mesh)).status_code == 201
        again = await api.post("/api/policies", json=mesh)
        assert (again.status_code, again.json()["type"]) == (409, "urn:warren:problem:conflict")
        await eventually(partial(is_ready, api))
        wrong = await api.get("/api/policies", headers={"authorization": "Bearer nobody"})
        assert wrong.status_code == 401


async def test_a_thousand_small_policies_fit_into_one_message_and_more_is_refused_by_name(tmp_path: Path) -> None:
    policies = [{"id": f"p{n}", "topology": {"kind": "mesh", "members": ["all"]}} for n in range(1_000)]
    async with api_server(tmp_path) as (_, services, bus, api):
        assert len((await api.post("/api/policies:apply", json={"policies": policies})).json()["created"]) == 1_000
        assert services.memory.policies["p7"].policy.options.ike.dpd_delay == 30
        wide = Policy.model_validate({**policies[0], "description": "x" * 1_000})
        command = ApplyPolicies(policies=tuple(wide.model_copy(update={"id": f"w{n}"}) for n in range(1_000)))
        with pytest.raises(InvalidInputError, match="split the request"):
            await bus.call("policy", "apply", command, ApplyReply)
        await eventually(partial(is_ready, api))


async def test_events_replay_and_go_on_across_a_stop_and_a_kill_without_loss(tmp_path: Path) -> None:
    async with api_server(tmp_path) as (server, services, bus, _), aclosing(bus.events(0, ())) as events:
        for number in range(100):
            await services.publish(f"before-{number}")
        assert policies(await next_events(events, 100)) == [f"before-{number}" for number in range(100)]
        for end in (server.stop, server.kill):
            await end()
            waiting = asyncio.ensure_future(next_events(events, 1))
            await server.start()
            await eventually(lambda: services.connections["policy"].is_connected)
            await services.publish(f"after-{end.__name__}")
            assert policies(await waiting) == [f"after-{end.__name__}"]


async def test_events_are_filtered_by_the_server_and_begin_now(tmp_path: Path) -> None:
    async with (
        api_server(tmp_path) as (_, services, bus, _),
        aclosing(bus.events(None, ["changed", "tunnel"])) as events,
    ):
        await services.publish("missed")
        assert await anext(events) is None  # from here on nothing is missed
        await services.publish("received")
        assert policies(await next_events(events, 1)) == ["received"]


@pytest.mark.parametrize("part", ["nats", "policy"])
async def test_what_is_unavailable_is_a_503_that_names_it_until_it_returns(tmp_path: Path, part: str) -> None:
    async with api_server(tmp_path) as (server, services, bus, api):
        if part == "nats":
            await server.stop()
            await eventually(lambda: not bus.is_connected)
        else:
            services.memory.unavailable = {"policy"}
        answer = await api.get("/api/policies")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:warren:problem:unavailable")
        assert part in answer.json()["detail"].lower()
        health = await api.get("/api/health")
        assert (health.status_code, health.json()["dependencies"][part]) == (503, False)
        if part == "nats":
            await server.start()
            await eventually(lambda: bus.is_connected)
            connections = services.connections.values()
            await eventually(lambda: all(connection.is_connected for connection in connections))
        services.memory.unavailable = set()

        async def is_listed() -> bool:  # a service subscribes again after it is connected
            return (await api.get("/api/policies")).status_code == 200

        await eventually(is_listed)


async def test_health_knows_whether_newcomers_are_answered(tmp_path: Path) -> None:
    async with RealServer(tmp_path) as server:
        assert not await callout_answers(server.settings("api"), limit=1.0)
        async with GrantingCallout(server) as callout:
            assert await callout_answers(server.settings("api"), limit=60.0)
            assert callout.asked >= 1
        assert not await callout_answers(server.settings("api"), limit=1.0)
    assert not await callout_answers(server.settings("api"), limit=1.0)


async def test_a_server_that_hangs_is_named_and_used_again_when_it_goes_on(tmp_path: Path) -> None:
    async with api_server(tmp_path) as (server, _, bus, api):
        await eventually(partial(is_up, api, "nats"))
        server.freeze()
        try:
            with pytest.raises(WarrenError, match=r"NATS does not answer \(within 0.3 s\)"):
                await bus.call("policy", "list", Page(), PolicyList, timeout=0.3)
            assert bus.is_connected
            assert not await bus.answers()
        finally:
            server.thaw()
        # The answers to what was given up come now, and must not make the connection deaf.
        async with asyncio.timeout(60):
            while not await bus.answers():
                pass
        assert (await bus.call("policy", "list", Page(), PolicyList)).policies == ()
