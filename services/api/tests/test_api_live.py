"""The live view: the model of the fleet, its messages, and the hub."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_api.live import hub as hub_module
from warren_api.live.filters import LiveFilter
from warren_api.live.model import LiveModel
from warren_contracts.base import Document
from warren_contracts.events import (
    PeerRetagged,
    PeerRevoked,
    PolicyChanged,
    PresenceChanged,
    ReportingChanged,
    TunnelChanged,
)
from warren_contracts.live import LiveMessage
from warren_contracts.peers import PresenceState
from warren_contracts.status import TunnelState, TunnelStatus
from warren_testkit.api.live_streams import LiveBed, live_bed, publish_event
from warren_testkit.api.world import live_world
from warren_testkit.examples import examples
from warren_testkit.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UP, DOWN = TunnelState.UP, TunnelState.DOWN


def changed(peer: str, tunnel: str, state: TunnelState, seconds: float = 0, *, removed: bool = False) -> TunnelChanged:
    other = next((it for it in tunnel.split("+") if it != peer), None)
    status = TunnelStatus(name=tunnel, state=state, peer=other)
    at = NOW + timedelta(seconds=seconds)
    return TunnelChanged(peer=peer, tunnel=tunnel, state=state, previous=None, removed=removed, status=status, at=at)


def presence(peer: str, state: str, seconds: float = 0) -> PresenceChanged:
    return PresenceChanged(peer=peer, state=PresenceState(state), at=NOW + timedelta(seconds=seconds))


def reporting(peer: str, seconds: float, outdated_until: float | None) -> ReportingChanged:
    until = None if outdated_until is None else NOW + timedelta(seconds=outdated_until)
    return ReportingChanged(peer=peer, outdated_until=until, at=NOW + timedelta(seconds=seconds))


@pytest.fixture
async def live() -> AsyncIterator[LiveBed]:
    async with live_bed(live_world()) as found:
        yield found


def states(messages: list[LiveMessage]) -> dict[str, str]:
    return {it.name: it.state.value for message in messages for it in message.tunnels}


async def test_a_stream_begins_with_all_there_is_and_continues_with_each_change(live: LiveBed) -> None:
    reader = await live.open()
    first = await reader.until_ready()
    assert states(first) == {"hub+spoke-1": "up", "hub+spoke-2": "up"}
    assert [it.peer for it in first[0].peers] == ["hub", "spoke-1", "spoke-2"]
    assert first[0].health is not None
    await publish_event(live.bus, changed("hub", "hub+spoke-1", DOWN))
    change = await reader.next()
    assert (change.kind, change.cursor, states([change])) == ("change", "1", {"hub+spoke-1": "down"})
    assert change.tunnels[0].tags == ("branch", "hub")
    await publish_event(live.bus, presence("hub", "offline"))
    change = await reader.next()
    assert ([it.presence for it in change.peers], len(change.tunnels)) == ([PresenceState.OFFLINE], 2)
    assert change.tunnels[0].stale == ("hub",)
    await publish_event(live.bus, PeerRevoked(peer="spoke-2", actor="ann", at=NOW))
    change = await reader.next()
    assert (change.peers_gone, states([change])) == (("spoke-2",), {"hub+spoke-2": "unknown"})
    stored = PolicyChanged(policy="p", action="created", revision=1, version=1, actor="ann", at=NOW)
    await publish_event(live.bus, stored)
    assert (await reader.next()).policies[0].id == "p"
    await publish_event(live.bus, stored.model_copy(update={"action": "deleted", "revision": 2}))
    assert (await reader.next()).policies_gone == ("p",)


async def test_what_a_peer_had_to_store_is_not_live_until_it_reports_again(live: LiveBed) -> None:
    reader = await live.open()
    await reader.until_ready()
    await publish_event(live.bus, reporting("hub", 120, 120))
    change = await reader.next()
    assert [(it.name, it.stale, it.state) for it in change.tunnels] == [
        ("hub+spoke-1", ("hub",), UP), ("hub+spoke-2", ("hub",), UP),
    ]  # fmt: skip
    await publish_event(live.bus, reporting("spoke-1", 120, 120))
    assert states([await reader.next()]) == {"hub+spoke-1": "unknown"}
    await publish_event(live.bus, changed("hub", "hub+spoke-1", DOWN, 30))  # late
    (row,) = (await reader.next()).tunnels
    assert (row.state, row.ends["hub"]) == (TunnelState.UNKNOWN, DOWN)
    assert row.reported_at == NOW + timedelta(seconds=30)
    await publish_event(live.bus, changed("hub", "hub+spoke-1", UP, 121))
    (row,) = (await reader.next()).tunnels
    assert (row.state, row.stale) == (UP, ("spoke-1",))
    await publish_event(live.bus, reporting("spoke-1", 122, None))
    (row,) = (await reader.next()).tunnels
    assert (row.state, row.stale) == (UP, ())


async def test_a_stream_that_begins_while_a_peer_is_behind_shows_it_so(live: LiveBed) -> None:
    held = live.bus.tunnels["hub+spoke-1"]
    live.bus.tunnels["hub+spoke-1"] = held.model_copy(update={"stale": ("hub",), "outdated": ("hub",)})
    reader = await live.open()
    rows = {it.name: it for message in await reader.until_ready() for it in message.tunnels}
    assert rows["hub+spoke-1"].stale == ("hub",)
    await publish_event(live.bus, reporting("hub", 1, None))
    change = await reader.next()
    assert {it.name: it.stale for it in change.tunnels}["hub+spoke-1"] == ()


async def test_a_filter_lets_rows_in_and_out(live: LiveBed) -> None:
    by_state = await live.open(states=[DOWN])
    assert states(await by_state.until_ready()) == {}
    by_peer = await live.open(peers=["spoke-2"])
    assert states(await by_peer.until_ready()) == {"hub+spoke-2": "up"}
    by_tag = await live.open(tags=["late"], policies=["branches"])
    assert states(await by_tag.until_ready()) == {}
    await publish_event(live.bus, changed("hub", "hub+spoke-1", DOWN))
    assert states([await by_state.next()]) == {"hub+spoke-1": "down"}
    await publish_event(live.bus, changed("hub", "hub+spoke-1", UP, 1))
    assert (await by_state.next()).tunnels_gone == ("hub+spoke-1",)
    await publish_event(live.bus, changed("hub", "hub+spoke-2", DOWN))
    assert states([await by_peer.next()]) == {"hub+spoke-2": "down"}
    await publish_event(live.bus, PeerRetagged(peer="spoke-1", tags=("late",), actor="ann", at=NOW))
    assert [it.peer for it in (await by_tag.next()).peers] == ["spoke-1"]


async def test_a_reader_that_returns_gets_what_it_missed_once_or_a_snapshot(live: LiveBed) -> None:
    staying = await live.open()
    await staying.until_ready()
    for n in range(3):
        await publish_event(live.bus, changed("hub", "hub+spoke-1", UP if n % 2 else DOWN, n))
        await staying.next()
    returned = await live.open(cursor=1)
    missed = await returned.until_ready()
    assert [(it.kind, it.cursor) for it in missed] == [("change", "2"), ("change", "3"), ("ready", "3")]
    assert [it.kind for it in await (await live.open(cursor=3)).until_ready()] == ["ready"]
    for unknown in (9, 10**15):
        again = await (await live.open(cursor=unknown)).until_ready()
        assert (again[0].kind, again[-1].cursor) == ("snapshot", "3")


async def test_changes_that_are_no_longer_held_lead_to_a_snapshot(
    live: LiveBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HELD_CHANGES", 2)
    staying = await live.open()
    await staying.until_ready()
    for n in range(4):
        await publish_event(live.bus, changed("hub", "hub+spoke-1", UP if n % 2 else DOWN, n))
        await staying.next()
    assert next(it.kind for it in await (await live.open(cursor=1)).until_ready()) == "snapshot"
    assert [it.cursor for it in await (await live.open(cursor=2)).until_ready()] == ["3", "4", "4"]


async def test_a_slow_reader_is_dropped_with_the_reason_and_others_are_not(
    live: LiveBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = await live.open(), await live.open()
    for reader in (slow, quick):
        await reader.until_ready()
    monkeypatch.setattr(hub_module, "MAX_BACKLOG", 2)
    for n in range(4):
        await publish_event(live.bus, changed("hub", "hub+spoke-1", UP if n % 2 else DOWN, n))
        assert (await quick.next()).kind == "change"
    message = await slow.next()
    assert (message.kind, message.reason.partition(":")[0]) == ("dropped", "slow-reader")
    live.stopping.set()
    assert (await quick.next()).reason.startswith("stopping")


async def test_streams_are_limited_per_token_and_per_address(live: LiveBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_OF_ACTOR", 2)
    monkeypatch.setattr(hub_module, "MAX_OF_ADDRESS", 3)
    for actor, address in (("ann", "a"), ("ann", "b"), ("bob", "a"), ("eve", "a")):
        live.hub.admit(actor, address)
    for actor, address in (("ann", "c"), ("joe", "a")):
        with pytest.raises(Exception, match=r"streams") as refused:
            live.hub.admit(actor, address)
        assert getattr(refused.value, "status", 0) == 429
    live.hub.leave("ann", "a", None)
    live.hub.admit("joe", "a")


async def test_the_fleet_must_be_readable(live: LiveBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "LOAD_SECONDS", 0.2)
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.05)
    live.bus.unavailable = {"metrics"}
    with pytest.raises(Exception, match="cannot be read"):
        await live.open()
    live.bus.unavailable = set()
    monkeypatch.setattr(hub_module, "LOAD_SECONDS", 20.0)
    assert (await (await live.open()).until_ready())[-1].kind == "ready"


async def test_a_reading_that_takes_longer_than_its_reader_waits_is_not_begun_again(
    live: LiveBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LOAD_SECONDS", 0.05)
    readings, may_go_on, call = [], asyncio.Event(), live.bus.call

    async def slow(service: str, verb: str, *arguments: Any, **options: Any) -> Any:
        if verb == "tunnels":
            readings.append(verb)
            await may_go_on.wait()
        return await call(service, verb, *arguments, **options)

    monkeypatch.setattr(live.bus, "call", slow)
    with pytest.raises(Exception, match="cannot be read"):
        await live.open()
    live.hub.leave("ann", "192.0.2.1", None)
    may_go_on.set()
    monkeypatch.setattr(hub_module, "LOAD_SECONDS", 20.0)
    assert (await (await live.open()).until_ready())[-1].kind == "ready"
    assert readings == ["tunnels"]


async def test_nothing_is_followed_some_time_after_the_last_stream(
    live: LiveBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.01)
    reader = await live.open()
    await reader.until_ready()
    live.hub.leave("ann", "192.0.2.1", live.opened.pop())
    await eventually(lambda: live.hub._task is None)


_EVENTS = st.lists(
    st.one_of(
        st.builds(
            changed, st.sampled_from(["hub", "spoke-1"]), st.just("hub+spoke-1"), st.sampled_from([UP, DOWN]),
            st.integers(0, 9), removed=st.booleans(),
        ),
        st.builds(presence, st.sampled_from(["hub", "spoke-1"]), st.sampled_from(["online", "offline"]), st.integers(0, 9)),
        st.builds(reporting, st.sampled_from(["hub", "spoke-1"]), st.just(9), st.one_of(st.none(), st.integers(0, 9))),
        st.just(PeerRevoked(peer="spoke-1", actor="ann", at=NOW)),
        st.builds(PeerRetagged, peer=st.sampled_from(["hub"]), tags=st.sampled_from([(), ("hub",)]), actor=st.just("a"), at=st.just(NOW)),
    ),
    max_size=15,
)  # fmt: skip


@given(
    _EVENTS, st.sampled_from([LiveFilter(), LiveFilter(states=frozenset({UP})), LiveFilter(tags=frozenset({"hub"}))])
)
@examples(150)
def test_a_snapshot_and_its_changes_are_the_snapshot_afterwards(events: list[Document], wanted: LiveFilter) -> None:
    from warren_api.live.messages import changed as messages_of

    bus, model = live_world(), LiveModel()
    model.load(bus.tunnels.values(), bus.peers.values(), ())
    held = {name: row.value for name, row in model.tunnels.items() if wanted.matches(row.value)}
    for cursor, event in enumerate(events, 1):
        for message in messages_of(model.apply(event, cursor), wanted):
            read = LiveMessage.model_validate_json(message.body)
            held |= {it.name: it for it in read.tunnels}
            for name in read.tunnels_gone:
                del held[name]
    assert held == {name: row.value for name, row in model.tunnels.items() if wanted.matches(row.value)}


async def test_a_large_change_comes_in_parts_of_which_the_last_has_the_cursor(
    live: LiveBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("warren_api.live.messages.PART", 1)
    reader = await live.open()
    assert len(await reader.until_ready()) == 4
    await publish_event(live.bus, presence("hub", "offline"))
    parts = [await reader.next(), await reader.next()]
    assert [(it.cursor, len(it.tunnels)) for it in parts] == [(None, 1), ("1", 1)]
