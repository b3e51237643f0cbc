"""A token with a scope: its holder guesses names, places of pages, filters, times and cursors to learn something of the rest of the fleet.

Everything is asked twice: of a fleet with another customer, and of one without. The replies must be the same to the byte.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from warren_contracts.commands import Role
from warren_contracts.events import PeerRetagged, PresenceChanged, TunnelChanged
from warren_contracts.peers import PresenceState
from warren_contracts.status import TunnelState, TunnelStatus
from warren_testkit.api import FakeBus
from warren_testkit.api.client import Client
from warren_testkit.api.live import LiveApi
from warren_testkit.api.world import TOKENS_OF, two_customers

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ("a-1", "a-2", "b-1", "b-2", "hub", "a-3")
TUNNELS = ("a-1+hub", "a-2+hub", "b-1+hub", "b-2+hub", "b-link", "a-3+hub")


def without_the_other(bus: FakeBus) -> FakeBus:
    """The same fleet without customer B."""
    for name in ("b-1", "b-2"):
        del bus.peers[name]
        del bus.tunnels[f"{name}+hub"]
    del bus.tunnels["b-link"]
    bus.remarks = {}
    return bus


@pytest.fixture
async def fleets() -> AsyncIterator[tuple[Client, Client]]:
    """A client as customer A of a fleet with customer B, and of the same one without."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(bus))
            for bus in (two_customers(), without_the_other(two_customers()))
        ]
        for client in clients:
            client.headers["authorization"] = f"Bearer {TOKENS_OF[Role.ADMIN]}"
        yield clients[0], clients[1]


async def same(fleets: tuple[Client, Client], method: str, path: str, **given: Any) -> None:
    """Both fleets reply the same."""
    replies = []
    for client in fleets:
        answer = await client.request(method, path, **given)
        headers = {name: value for name, value in answer.headers.items() if name not in ("trace-id", "content-length")}
        replies.append((answer.status_code, answer.text.replace(answer.headers["trace-id"], ""), headers))
    assert replies[0] == replies[1], (path, given)


async def test_names_are_guessed(fleets: tuple[Client, Client]) -> None:
    for name in NAMES:
        await same(fleets, "GET", f"/api/peers/{name}")
        for method, path, body in (
            ("DELETE", "", None), ("PUT", "/tags", {"tags": ["customer-a"]}), ("PUT", "/priority", {"priority": 1}),
        ):  # fmt: skip
            await same(fleets, method, f"/api/peers/{name}{path}", json=body)
    for name in TUNNELS:
        for part in ("", "/explanation", "/history", "/counters"):
            await same(fleets, "GET", f"/api/tunnels/{name}{part}")
        for peer in (*NAMES, None):
            query = {} if peer is None else {"peer": peer}
            await same(fleets, "POST", f"/api/tunnels/{name}/rekey", params=query)
            await same(fleets, "POST", f"/api/tunnels/{name}/restart", params=query | {"sa": "child=x"})
    for method, path in (
        ("GET", "/api/operator-tokens"),
        ("DELETE", "/api/operator-tokens/root"),
        ("GET", "/api/join-tokens"),
    ):
        await same(fleets, method, path)


async def test_places_of_pages_filters_and_conditions_are_guessed(fleets: tuple[Client, Client]) -> None:
    for after in ("", *NAMES, *TUNNELS, "b", "zz", "~"):
        for limit in (1, 2, 500):
            page = {"after": after, "limit": limit}
            for path in ("/api/peers", "/api/tunnels", "/api/policies"):
                await same(fleets, "GET", path, params=page)
            await same(fleets, "GET", "/api/fleet", params=page | {"at": "2026-01-01T00:00:00Z"})
    for peer in NAMES:
        for state in ("up", "down", "unknown"):
            await same(fleets, "GET", "/api/tunnels", params={"peer": peer, "state": state})
    for field in ("If-Match", "If-None-Match"):
        for value in ('"1"', "*"):
            await same(fleets, "GET", "/api/policies/mesh", headers={field: value})
    for path in ("/api/peers", "/api/tunnels"):
        for wrong in ({"after": "x" * 200}, {"limit": 0}, {"tag": "customer-b"}):
            await same(fleets, "GET", path, params=wrong)


async def test_times_are_guessed(fleets: tuple[Client, Client]) -> None:
    """A gateway came to customer A from customer B: what was before is B's."""
    for client in fleets:
        client.bus.tagged_at["a-1"] = NOW - timedelta(hours=1)
        client.bus.tagged_at["a-2"] = NOW
    with_other, _ = fleets
    seen = {}
    for hours in (0, 0.5, 1, 2, 100):
        at = (NOW - timedelta(hours=hours)).isoformat()
        await same(fleets, "GET", "/api/fleet", params={"at": at})
        observed = (await with_other.get("/api/fleet", params={"at": at})).json()["observed"]
        seen[hours] = ([it["name"] for it in observed["tunnels"]], observed["gateways"], observed["states"])
    assert seen[0][0] == ["a-1+hub", "a-2+hub"]
    assert seen[0.5] == seen[1] == (["a-1+hub"], {"online": 1}, {"down": 1})
    assert seen[2] == seen[100] == ([], {}, {})
    for before in (None, "1-1", f"{2**59}-1"):
        for until in (None, "2025-12-31T00:00:00Z"):
            query = {name: value for name, value in (("before", before), ("until", until)) if value}
            await same(fleets, "GET", "/api/tunnels/a-1+hub/history", params=query)
    history = (await with_other.get("/api/tunnels/a-2+hub/history")).json()
    assert history["begins"] == "2026-01-01T00:00:00Z"
    assert not any(history["last_7d"]["buckets"])


def test_an_old_cursor_shows_nothing_of_what_a_gateway_was_before() -> None:
    """Streams are resumed from before b-1 came from customer B to customer A."""
    bus = two_customers()
    secret = "said while it was customer B's"
    status = TunnelStatus(name="b-1+hub", state=TunnelState.ERROR, peer="hub", detail=secret)
    said = TunnelChanged(
        peer="b-1", tunnel="b-1+hub", state=TunnelState.ERROR, previous=None, removed=False, status=status,
        at=NOW - timedelta(seconds=10),
    )  # fmt: skip
    offline = PresenceChanged(peer="b-1", state=PresenceState.OFFLINE, reason=secret, at=NOW - timedelta(seconds=9))
    moved = PeerRetagged(peer="b-1", tags=("customer-a",), actor="root", at=NOW)
    for kind, body in ((type(it).TYPE, it.model_dump_json().encode()) for it in (said, offline, moved)):
        asyncio.run(bus.publish("warren.v1.event.x.y.b-1", kind, body))
    bus.peers["b-1"] = bus.peers["b-1"].model_copy(update={"tags": ("customer-a",)})
    bus.tagged_at["b-1"] = NOW
    bus.add_token("of-b", Role.VIEWER, "customer-b")
    stored = bus.stored
    with LiveApi(bus=bus) as api:
        bus.stored.extend(stored)
        for token, expected in ((TOKENS_OF[Role.VIEWER], ["warren.peer.retagged.v1"]), ("of-b", [])):
            for header in ({}, {"last-event-id": "0"}, {"last-event-id": "1"}):
                text = beginning(f"{api.url}/api/events?after=0", ": alive", authorization=f"Bearer {token}", **header)
                assert [it.removeprefix("event: ") for it in text.splitlines() if it.startswith("event: ")] == expected
                assert secret not in text
            for cursor in ("0", "1", "3"):
                live = beginning(
                    f"{api.url}/api/live", "event: ready", authorization=f"Bearer {token}", **{"last-event-id": cursor}
                )
                assert secret not in live
                assert "event: snapshot" in live
                assert ("b-1" in live) is (token != "of-b")


def beginning(url: str, mark: str, **headers: str) -> str:
    """What a stream sends up to a line."""
    found: list[str] = []
    with httpx.stream("GET", url, headers=headers, trust_env=False, timeout=60) as answer:
        for line in answer.iter_lines():
            found.append(line)
            if line == mark:
                break
    return "\n".join(found)
