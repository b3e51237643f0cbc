"""Streams of a scope: the live view and the events, while peers enter the scope and leave it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from starlette.requests import HTTPConnection

from warren_api.live.model import LiveChange, RowChange
from warren_api.ports import StoredEvent
from warren_api.scope import source as source_module
from warren_api.scope.source import CACHE_SECONDS, ScopeSource
from warren_api.sessions.credential import Method
from warren_api.sessions.identity import RequestAuthenticator
from warren_api.sessions.store import SessionStore
from warren_contracts.authentication import Authenticated
from warren_contracts.commands import Role
from warren_contracts.events import (
    EVENTS,
    EpochAdvanced,
    PeerEnrolled,
    PeerRetagged,
    PeerRevoked,
    PolicyApplied,
    PolicyChanged,
    PresenceChanged,
    TunnelChanged,
)
from warren_contracts.live import LiveMessage
from warren_contracts.peers import PresenceState
from warren_contracts.problems import UnauthorizedError, UnavailableError
from warren_contracts.status import TunnelState, TunnelStatus
from warren_testkit.api import FakeBus
from warren_testkit.api.client import Client, problem
from warren_testkit.api.live_streams import LiveBed, LiveReader, live_bed, publish_event
from warren_testkit.api.world import TOKENS_OF, two_customers
from warren_testkit.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCOPE = ("customer-a",)


def changed(peer: str, tunnel: str, state: TunnelState, detail: str = "") -> TunnelChanged:
    other = next((it for it in tunnel.split("+") if it != peer), None)
    status = TunnelStatus(name=tunnel, state=state, peer=other, detail=detail)
    return TunnelChanged(peer=peer, tunnel=tunnel, state=state, previous=None, removed=False, status=status, at=NOW)


async def retag(bus: FakeBus, peer: str, *tags: str) -> None:
    """As the registry: first the row, then the event."""
    bus.peers[peer] = bus.peers[peer].model_copy(update={"tags": tags})
    bus.tagged_at[peer] = NOW
    await publish_event(bus, PeerRetagged(peer=peer, tags=tags, actor="root", at=NOW))


@pytest.fixture
async def live() -> AsyncIterator[LiveBed]:
    async with live_bed(two_customers(), SCOPE) as found:
        yield found


def names(messages: list[LiveMessage]) -> list[str]:
    return [it.name for message in messages for it in message.tunnels]


async def test_a_snapshot_has_the_scope_only_and_no_cursor(live: LiveBed) -> None:
    reader = await live.open()
    first = await reader.until_ready()
    assert (names(first), [it.peer for it in first[0].peers]) == (["a-1+hub", "a-2+hub"], ["a-1", "a-2"])
    assert {it.tags for message in first for it in message.tunnels} == {("customer-a",)}
    assert {it.detail for message in first for it in message.tunnels} == {""}, "of the far end, which has the reason"
    assert first[0].health is not None
    assert (first[0].health.detail, first[0].health.remarks) == ({}, {})
    assert {it.cursor for it in first} == {None}
    assert first[0].policies == ()


async def test_changes_of_others_are_not_sent_and_old_cursors_resume_nothing(live: LiveBed) -> None:
    reader = await live.open()
    await reader.until_ready()
    await publish_event(live.bus, changed("hub", "b-1+hub", TunnelState.UP))
    await publish_event(live.bus, PresenceChanged(peer="b-1", state=PresenceState.OFFLINE, at=NOW))
    await publish_event(live.bus, PresenceChanged(peer="hub", state=PresenceState.ONLINE, reason="b-1", at=NOW))
    await publish_event(
        live.bus, PolicyChanged(policy="of-b", action="created", revision=1, version=1, actor="x", at=NOW)
    )
    await publish_event(live.bus, changed("a-1", "a-1+hub", TunnelState.ERROR, "own words"))
    change = await reader.next()
    assert (change.kind, names([change]), change.cursor) == ("change", ["a-1+hub"], None)
    assert (change.tunnels[0].state, change.tunnels[0].ends["hub"]) == (TunnelState.ERROR, TunnelState.DOWN)
    for cursor in (0, 1, 5, 10**9):
        again = await live.open(cursor=cursor)
        assert names(await again.until_ready()) == ["a-1+hub", "a-2+hub"]
        assert "b-1" not in again.text
    assert "b-1" not in reader.text


async def test_a_peer_that_leaves_the_scope_disappears_and_one_that_enters_appears(live: LiveBed) -> None:
    reader, other = await live.open(), await live.open(tags=["customer-b", "hub"])
    await reader.until_ready()
    assert names(await other.until_ready()) == [], "a filter answers nothing about tags that are not shown"
    await retag(live.bus, "a-2", "customer-b")
    change = await reader.next()
    assert (change.peers_gone, change.tunnels_gone, change.tunnels) == (("a-2",), ("a-2+hub",), ())
    await retag(live.bus, "b-1", "customer-a", "x")
    change = await reader.next()
    assert ([it.peer for it in change.peers], names([change])) == (["b-1"], ["b-1+hub"])
    await retag(live.bus, "b-1", "customer-b")
    change = await reader.next()
    assert (change.peers_gone, change.tunnels_gone) == (("b-1",), ("b-1+hub",))
    await publish_event(live.bus, PeerRevoked(peer="a-1", actor="root", at=NOW))
    change = await reader.next()
    assert (change.peers_gone, change.tunnels_gone) == (("a-1",), ("a-1+hub",))
    assert names([message async for message in drained(reader)]) == []


async def drained(reader: LiveReader) -> AsyncIterator[LiveMessage]:
    reader.stream.end("test: the end")
    while (message := await reader.next()).kind != "dropped":
        yield message


async def test_the_tags_of_the_far_end_do_not_hold_a_tunnel_that_changes_hands(live: LiveBed) -> None:
    """Both ends have the tag, then one: the tunnel stays, and what only the other end says is not shown any more."""
    await retag(live.bus, "hub", "customer-a")
    live.bus.peers["hub"] = live.bus.peers["hub"].model_copy(update={"tags": ("customer-a",)})
    reader = await live.open(peers=["a-1"])
    assert [it.detail for message in await reader.until_ready() for it in message.tunnels] == [
        "the same selectors as b-2+hub of customer-b"
    ]
    await retag(live.bus, "hub", "other")
    change = await reader.next()
    assert [(it.name, it.detail, it.tags) for it in change.tunnels] == [("a-1+hub", "", ("customer-a",))]


async def test_a_far_end_has_no_words_as_soon_as_it_is_one(live: LiveBed) -> None:
    """Here the tags of both ends together stay the same, so that the row of the whole fleet does not change."""
    for peer in ("a-1", "hub"):
        live.bus.peers[peer] = live.bus.peers[peer].model_copy(update={"tags": ("customer-a", "x")})
    reader = await live.open(peers=["a-1"])
    assert {it.detail for message in await reader.until_ready() for it in message.tunnels} != {""}
    await retag(live.bus, "hub", "x")
    change = await reader.next()
    assert [(it.name, it.detail) for it in change.tunnels] == [("a-1+hub", "")]


async def test_a_stream_of_a_scope_is_alive_while_only_others_change(live: LiveBed) -> None:
    reader = await live.open()
    await reader.until_ready()
    change = LiveChange(1, peers=[RowChange("b-1", None, None)])

    async def others() -> None:
        while True:
            reader.stream.offer(change)
            await asyncio.sleep(0.001)

    changing = asyncio.create_task(others())
    try:
        async with aclosing(reader.stream.messages(0.1)) as messages, asyncio.timeout(60):
            assert await anext(messages) is None
    finally:
        changing.cancel()


async def test_a_stream_ends_when_its_token_has_another_scope() -> None:
    now = Authenticated(name="ann", role=Role.VIEWER, scope=SCOPE)

    async def check(subject: str, address: str) -> Authenticated:
        return now

    identity = RequestAuthenticator(SessionStore(60, 60, lambda: 0.0), {Method.TOKEN: check})
    request = HTTPConnection({"type": "http", "headers": [(b"authorization", b"Bearer x")], "client": None})
    before = await identity.same_principal(request, now)
    for other in (None, ("customer-b",)):
        now = before.model_copy(update={"scope": other})
        with pytest.raises(UnauthorizedError):
            await identity.same_principal(request, before)


async def shown(source: ScopeSource, bus: FakeBus, after: int = 0) -> list[StoredEvent]:
    """The stored events that a reader of the scope gets, up to the end of what is stored."""
    found: list[StoredEvent] = []
    async with aclosing(source.events(SCOPE, bus.events(after, ()))) as events:
        async for event in events:
            if event is None:
                return found
            found.append(event)
    return found


async def test_events_are_those_of_the_scope_and_without_the_words_of_far_ends() -> None:
    bus = two_customers()
    applied = {"epoch": 1, "revision": 1, "ok": True, "duration_ms": 1.0, "at": NOW}
    await publish_event(bus, changed("a-1", "a-1+hub", TunnelState.UP, "own words"))
    await publish_event(bus, changed("hub", "a-1+hub", TunnelState.UP, "words about b-1"))
    await publish_event(bus, changed("hub", "b-1+hub", TunnelState.UP))
    await publish_event(bus, PolicyApplied(peer="a-1", **applied))
    await publish_event(bus, PolicyApplied(peer="hub", **applied))
    await publish_event(bus, PolicyChanged(policy="p", action="created", revision=1, version=1, actor="b", at=NOW))
    await publish_event(bus, EpochAdvanced(epoch=2, before=1, actor="b", at=NOW))
    await bus.publish("warren.v1.event.x.y.z", "warren.unknown.v9", b'{"peer":"a-1"}')
    await bus.publish("warren.v1.event.x.y.z", TunnelChanged.TYPE, b"not JSON")
    found = await shown(ScopeSource(bus), bus)
    assert [event.sequence for event in found] == [1, 2, 4]
    assert b"own words" in found[0].data
    assert b"b-1" not in found[1].data
    assert TunnelChanged.model_validate_json(found[1].data).status.state is TunnelState.UP


def test_every_event_is_of_a_peer_or_of_the_fleet() -> None:
    """A new kind of event is not shown to a scope until `warren_api.scope.events` says whose it is."""
    with_peer = {model for model in EVENTS if "peer" in model.model_fields}
    assert {model for model in EVENTS if model not in with_peer} == {PolicyChanged, EpochAdvanced}


async def test_events_from_before_a_peer_belonged_to_the_scope_are_not_shown() -> None:
    bus = two_customers()
    bus.tagged_at["a-1"] = NOW + timedelta(seconds=1)
    await publish_event(bus, changed("a-1", "a-1+hub", TunnelState.UP))
    await publish_event(bus, changed("a-2", "a-2+hub", TunnelState.UP))
    assert [event.sequence for event in await shown(ScopeSource(bus), bus)] == [2]


async def test_events_follow_a_peer_into_the_scope_and_out_of_it_at_once() -> None:
    bus, now = two_customers(), [0.0]
    source = ScopeSource(bus, lambda: now[0])
    async with aclosing(source.events(SCOPE, bus.events(None, ()))) as events, asyncio.timeout(60):
        assert await anext(events) is None
        await publish_event(bus, changed("a-1", "a-1+hub", TunnelState.UP))
        assert (await anext(events) or bus.stored[-1]).sequence == 1
        await retag(bus, "a-1", "customer-b")
        await publish_event(bus, changed("a-1", "a-1+hub", TunnelState.DOWN))
        await retag(bus, "b-1", "customer-a")
        await publish_event(bus, changed("hub", "b-1+hub", TunnelState.DOWN))
        found = [await anext(events), await anext(events)]
        assert [event.sequence for event in found if event is not None] == [4, 5]
        bus.add_peer("a-9", "customer-a")
        await publish_event(bus, PeerEnrolled(peer="a-9", tags=("customer-a",), at=NOW))
        assert b"a-9" in (await anext(events) or bus.stored[0]).data


async def test_a_view_is_read_again_after_two_seconds_and_used_longer_only_while_the_registry_is_unavailable() -> None:
    bus, now = two_customers(), [0.0]
    source = ScopeSource(bus, lambda: now[0])
    assert (await source.view(SCOPE)).peers == ("a-1", "a-2")
    bus.peers["a-2"] = bus.peers["a-2"].model_copy(update={"tags": ()})
    assert (await source.view(SCOPE)).peers == ("a-1", "a-2")
    now[0] += CACHE_SECONDS
    assert (await source.view(SCOPE)).peers == ("a-1",)
    now[0] += CACHE_SECONDS
    bus.unavailable = {"registry"}
    with pytest.raises(UnavailableError):
        await source.view(SCOPE)
    bus.unavailable = set()
    async with aclosing(source.events(SCOPE, bus.events(None, ()))) as events, asyncio.timeout(60):
        assert await anext(events) is None
        now[0] += CACHE_SECONDS
        bus.unavailable = {"registry"}
        await publish_event(bus, changed("a-1", "a-1+hub", TunnelState.UP))
        assert await anext(events) is not None


async def test_after_a_move_nothing_is_shown_until_the_registry_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "RETRY_SECONDS", 0.01)
    bus = two_customers()
    source = ScopeSource(bus)
    async with aclosing(source.events(SCOPE, bus.events(None, ()))) as events, asyncio.timeout(60):
        assert await anext(events) is None
        bus.unavailable = {"registry"}
        await retag(bus, "a-1", "customer-b")
        await publish_event(bus, changed("a-1", "a-1+hub", TunnelState.UP))
        await publish_event(bus, changed("a-2", "a-2+hub", TunnelState.UP))
        waiting = asyncio.ensure_future(anext(events))
        await eventually(lambda: sum(1 for _, verb, _ in bus.calls if verb == "scoped_peers") >= 1)
        assert not waiting.done()
        bus.unavailable = set()
        assert b"a-2+hub" in (await waiting or bus.stored[0]).data


async def test_a_scope_of_too_many_peers_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_ENDS", 1)
    async with Client(two_customers()) as api:
        api.headers["authorization"] = f"Bearer {TOKENS_OF[Role.VIEWER]}"
        for path in ("/api/peers", "/api/tunnels", "/api/tunnels/a-1+hub"):
            problem(await api.get(path), 403, "scope-too-large")
