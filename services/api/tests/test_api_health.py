"""The API server's reports while the bus or a service is unavailable."""

import httpx
import pytest

from warren_testkit.api import FakeBus
from warren_testkit.api.client import Client, problem


async def test_a_service_that_is_unavailable_is_named_and_used_again(api: Client) -> None:
    api.bus.unavailable = {"policy"}
    answer = await api.get("/api/policies")
    assert "policy" in problem(answer, 503, "unavailable")["detail"]
    assert answer.headers["retry-after"] == "1"
    api.bus.unavailable = set()
    assert (await api.get("/api/policies")).status_code == 200


async def test_a_bus_that_is_unavailable_is_named_and_used_again(api: Client) -> None:
    api.bus.is_connected = False
    assert "NATS" in problem(await api.get("/api/policies"), 503, "unavailable")["detail"]
    api.bus.is_connected = True
    assert (await api.get("/api/policies")).status_code == 200


async def test_health_names_every_dependency_without_a_token_and_reasons_with_one(api: Client) -> None:
    open_client = httpx.AsyncClient(transport=api._transport, base_url="http://api")
    async with open_client:
        healthy = await open_client.get("/api/health")
        assert (healthy.status_code, healthy.json()["ready"]) == (200, True)
        assert healthy.json()["dependencies"]["policy/postgres"] is True
        assert healthy.json()["detail"] == {}
        assert (await open_client.get("/api/health/live")).json() == {"live": True}
    assert (await api.get("/api/health")).json()["detail"]["policy/postgres"] == "17.2"


@pytest.mark.parametrize("part", ["metrics", "callout"])
async def test_health_is_503_and_names_what_is_unavailable(part: str) -> None:
    bus = FakeBus()
    bus.unavailable = {part}
    async with Client(bus) as api:
        answer = await api.get("/api/health")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert [name for name, up in answer.json()["dependencies"].items() if not up] == [part]
    bus.is_connected = False
    async with Client(bus) as api:
        unavailable = (await api.get("/api/health")).json()
        assert not any(unavailable["dependencies"].values())
        assert unavailable["live"] is True


async def test_health_says_why_a_restored_service_waits_only_with_a_token() -> None:
    bus = FakeBus()
    bus.restored = {"registry", "policy"}
    async with Client(bus) as api:
        answer = await api.get("/api/health")
        assert answer.status_code == 503
        assert answer.json()["dependencies"]["registry/epoch"] is False
        assert "warren epoch advance" in answer.json()["detail"]["policy/epoch"]
        api.headers["authorization"] = "Bearer never-seen"
        problem(await api.get("/api/health"), 401, "unauthorized")
        del api.headers["authorization"]
        assert (await api.get("/api/health")).json()["detail"] == {}


async def test_a_dependency_of_a_service_without_reply_stays_listed_with_its_reason_for_recent_tokens() -> None:
    bus = FakeBus()
    async with Client(bus) as api:
        assert (await api.get("/api/health")).json()["dependencies"]["registry/postgres"] is True
        app = api._transport.app  # type: ignore[attr-defined] # ASGITransport
        app.state.parts.health._answer = None
        bus.hung = {"registry"}
        silent = (await api.get("/api/health")).json()
        assert silent["dependencies"]["registry/postgres"] is False
        assert silent["detail"]["registry/postgres"].startswith("unknown: the registry service does not answer")
        api.headers["authorization"] = "Bearer never-seen"
        assert (await api.get("/api/health")).json()["detail"] == {}
        problem(await api.get("/api/policies"), 503, "unavailable")


async def test_a_bus_that_hangs_is_the_one_that_is_named(api: Client) -> None:
    assert (await api.get("/api/health")).json()["ready"] is True
    app = api._transport.app  # type: ignore[attr-defined] # ASGITransport
    app.state.parts.health._answer = None
    api.bus.hung = {"nats"}
    health = (await api.get("/api/health")).json()
    assert not any(health["dependencies"].values())
    assert health["detail"]["nats"].startswith("connected, but does not answer")
    assert health["detail"]["registry/postgres"].startswith("unknown")
    assert "NATS does not answer" in problem(await api.get("/api/policies"), 503, "unavailable")["detail"]


async def test_remarks_of_services_change_no_readiness_and_need_a_token(api: Client) -> None:
    api.bus.remarks = {"identities": "hub: identity in use by two hosts"}
    answer = await api.get("/api/health")
    assert (answer.status_code, answer.json()["remarks"]["registry/identities"]) == (
        200, "hub: identity in use by two hosts",
    )  # fmt: skip
    async with httpx.AsyncClient(transport=api._transport, base_url="http://api") as open_client:
        assert (await open_client.get("/api/health")).json()["remarks"] == {}
