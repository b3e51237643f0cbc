"""The part of a fleet that a scope is: what a reader of it gets is the filter of what a reader of all of it gets. Pure, and over HTTP."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_api.scope.rules import require_scope
from warren_api.scope.view import ScopeView
from warren_contracts.authentication import Authenticated
from warren_contracts.commands import Role
from warren_contracts.peers import PresenceState
from warren_contracts.problems import ForbiddenError
from warren_contracts.status import TunnelState, TunnelStatus
from warren_contracts.tunnel_history import (
    AppliedEntry,
    EndCounters,
    HistoryStrip,
    PresenceEntry,
    StateEntry,
    TunnelCounters,
    TunnelHistory,
)
from warren_testkit.api import FakeBus
from warren_testkit.api.client import Client
from warren_testkit.examples import examples

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TAGS = ("a", "b", "c")
SCOPED = "token-with-a-scope"

fleets = st.dictionaries(
    st.sampled_from([f"p{number}" for number in range(8)]),
    st.frozensets(st.sampled_from(TAGS), max_size=2),
    min_size=1,
)
pairs = st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda it: it[0] < it[1]), max_size=15)
scopes = st.frozensets(st.sampled_from(TAGS), min_size=1)


def fleet_of(tags: dict[str, frozenset[str]], ends: set[tuple[int, int]], scope: frozenset[str]) -> FakeBus:
    """Peers with these tags, tunnels between some of them (and some that are not enrolled), and a token with a scope."""
    bus = FakeBus()
    for peer, of_peer in tags.items():
        bus.add_peer(peer, *sorted(of_peer))
    for first, second in ends:
        bus.add_tunnel(f"p{first}+p{second}", list(TunnelState)[(first + second) % 3])
    bus.add_token(SCOPED, Role.VIEWER, *sorted(scope))
    return bus


async def pages(api: Client, path: str, field: str, limit: int, **query: Any) -> list[dict[str, Any]]:
    """All entries of a listing; each page but the last is full, and no place of a page is that of an entry which is not shown."""
    found: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = (await api.get(path, params={"limit": limit, "after": after, **query})).json()
        shown = page.get("observed", page)
        found += shown[field]
        if (after := shown["next_after"]) is not None:
            assert len(shown[field]) == limit
            assert found[-1].get("name", found[-1].get("peer")) == after
    return found


@given(fleets, pairs, scopes, st.integers(1, 4))
@examples(200)
def test_what_a_reader_of_a_scope_gets_is_the_filter_of_what_others_get(
    tags: dict[str, frozenset[str]], ends: set[tuple[int, int]], scope: frozenset[str], limit: int
) -> None:
    def belongs(peers: list[str]) -> bool:
        return any(not scope.isdisjoint(tags.get(peer, ())) for peer in peers)

    async def compare() -> None:
        async with Client(fleet_of(tags, ends, scope)) as api:
            at = {"at": "2026-01-01T00:00:00Z"}
            listings: tuple[tuple[str, str, dict[str, str]], ...]
            listings = (("/api/peers", "peers", {}), ("/api/tunnels", "tunnels", {}), ("/api/fleet", "tunnels", at))
            everything = [await pages(api, path, field, 500, **query) for path, field, query in listings]
            api.headers["authorization"] = f"Bearer {SCOPED}"
            for (path, field, query), entries in zip(listings, everything, strict=True):
                expected = [it for it in entries if belongs(it["peers"] if field == "tunnels" else [it["peer"]])]
                assert await pages(api, path, field, limit, **query) == expected, path
                for entry in entries if path != "/api/fleet" else ():
                    name = entry["name"] if field == "tunnels" else entry["peer"]
                    answer = await api.get(f"{path}/{name.replace('+', '%2B')}")
                    assert (answer.json() == entry) is (entry in expected)
                    assert answer.status_code == (200 if entry in expected else 404)

    asyncio.run(compare())


def history(*entries: StateEntry | PresenceEntry | AppliedEntry, more: str | None = None) -> TunnelHistory:
    buckets = ({TunnelState.UP: 3_600.0},) * 2 + ({TunnelState.DOWN: 3_600.0},) * 2
    up = HistoryStrip(start=NOW - 4 * HOUR, bucket_seconds=3_600, buckets=buckets)
    return TunnelHistory(
        name="a+hub", entries=entries, begins=NOW - 30 * HOUR, next_before=more, last_24h=up, last_7d=up
    )


def state(hours: float, peer: str = "a", detail: str = "no answer") -> StateEntry:
    return StateEntry(at=NOW - hours * HOUR, peer=peer, state=TunnelState.DOWN, detail=detail)


def test_what_happened_before_a_peer_belonged_to_the_scope_is_not_shown() -> None:
    view = ScopeView({"a": NOW - 2 * HOUR})
    shown = view.history(history(state(1), state(2), state(2.1), state(3), more="1-1"), ("a", "hub"))
    assert shown is not None
    assert [it.at for it in shown.entries] == [NOW - HOUR, NOW - 2 * HOUR]
    assert (shown.next_before, shown.begins) == (None, NOW - 2 * HOUR)
    assert shown.last_24h is not None
    assert shown.last_24h.buckets == ({}, {}, {TunnelState.DOWN: 3_600.0}, {TunnelState.DOWN: 3_600.0})
    assert shown.last_24h.up_ratio == 0.0
    later = ScopeView({"a": NOW - 1.5 * HOUR}).history(history(), ("a", "hub"))
    assert later is not None
    assert later.last_24h is not None
    assert later.last_24h.buckets[2] == {}, "a bucket that begins before is not of the scope"
    whole = ScopeView({"a": NOW - 9 * HOUR}).history(history(state(1), more="1-1"), ("a", "hub"))
    assert whole is not None
    assert (whole.next_before, whole.last_7d) == ("1-1", history().last_7d)
    assert view.history(history(state(1)), ("b", "hub")) is None


def test_the_words_of_a_far_end_are_not_shown() -> None:
    view = ScopeView({"a": NOW - 9 * HOUR})
    entries = (
        state(1, "hub", "rival of b+hub"),
        PresenceEntry(at=NOW, peer="hub", presence=PresenceState.OFFLINE, reason="stopped for b"),
        AppliedEntry(at=NOW, peer="hub", epoch=1, revision=1, ok=False, duration_ms=1, error="b+hub: refused"),
        state(1, "a", "own words"),
    )
    shown = view.history(history(*entries), ("a", "hub"))
    assert shown is not None
    assert [it.peer for it in shown.entries] == ["hub", "hub", "a"]
    assert not {getattr(it, "detail", "") + getattr(it, "reason", "") for it in shown.entries[:2]} - {"", "none"}
    assert shown.entries[2] == entries[3]


def test_traffic_is_shown_from_when_the_tunnel_belongs_to_the_scope_on() -> None:
    end = EndCounters(bytes_in=(1, 2, 3), bytes_out=(4, 5, 6))
    counters = TunnelCounters(name="a+hub", start=NOW, step_seconds=60, ends={"a": end, "hub": end})
    for seconds, hidden in ((-1, 0), (0, 0), (1, 1), (60, 1), (61, 2), (10_000, 3)):
        shown = ScopeView({"a": NOW + timedelta(seconds=seconds)}).counters(counters, ("a", "hub"))
        assert shown is not None
        assert shown.ends["hub"].bytes_in == (None,) * hidden + (1, 2, 3)[hidden:], seconds
        assert len(shown.ends["a"].bytes_out) == 3
    assert ScopeView({}).counters(counters, ("a", "hub")) is None


def test_a_peer_is_seen_in_the_past_only_since_it_belongs_to_the_scope() -> None:
    view = ScopeView({"b": NOW, "a": NOW - HOUR})
    assert (view.peers, view.peers_at(NOW - HOUR), view.peers_at(NOW - 2 * HOUR)) == (("a", "b"), ("a",), ())
    assert view.since_of(("b", "x", "a")) == NOW - HOUR
    assert not view.has_event(("b", "x"), NOW - HOUR)
    assert view.has_event(("b", "x"), NOW)


def test_a_tunnel_without_words_is_not_copied() -> None:
    bus = FakeBus()
    found = bus.add_tunnel("a+hub")
    assert ScopeView({"a": NOW}).tunnel(found) is found
    ends = {peer: TunnelStatus(name="a+hub", state=TunnelState.DOWN, detail=f"of {peer}") for peer in ("a", "hub")}
    shown = ScopeView({"a": NOW}).tunnel(found.model_copy(update={"ends": ends}))
    assert {peer: end.detail for peer, end in shown.ends.items()} == {"a": "of a", "hub": ""}


@pytest.mark.parametrize(("scope", "route", "refused"), [
    (None, "advance_epoch", False), (("a",), "advance_epoch", True), (("a",), "list_peers", False), (("a",), "", True),
    (("a",), "a_new_route", True), (None, "a_new_route", False),
])  # fmt: skip
def test_a_route_that_is_not_in_the_table_is_for_the_whole_fleet(scope: Any, route: str, refused: bool) -> None:
    principal = Authenticated(name="ann", role=Role.ADMIN, scope=scope)
    if refused:
        with pytest.raises(ForbiddenError, match="tags a"):
            require_scope(principal, route)
    else:
        require_scope(principal, route)


@pytest.mark.parametrize(
    "text", ['{"name":"ann","role":"viewer","scope":[]}', '{"name":"ann","role":"viewer","scope":[">"]}']
)
def test_a_scope_that_was_lost_on_the_way_is_not_the_whole_fleet(text: str) -> None:
    with pytest.raises(ValueError, match="scope"):
        Authenticated.model_validate_json(text)
