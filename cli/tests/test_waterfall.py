"""The progress of a revision, from stored events."""

from datetime import UTC, datetime, timedelta
from typing import Any

from warren_cli.remote.waterfall import BAR, bars, newest_revision, waterfall
from warren_contracts.events import Event, PolicyApplied, PolicyChanged, TunnelChanged
from warren_contracts.status import TunnelState, TunnelStatus

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
TRACE = "0af7651916cd43dd8448eb211c80319c"


def at(ms: float) -> datetime:
    return NOW + timedelta(milliseconds=ms)


def stored(event: Event, trace: str = TRACE) -> dict[str, Any]:
    """As the API server sends it."""
    return {
        "type": event.TYPE, "traceparent": f"00-{trace}-b7ad6b7169203331-01", "data": event.model_dump(mode="json")
    }  # fmt: skip


def change(revision: int, policy: str = "star", ms: float = 0) -> PolicyChanged:
    return PolicyChanged(policy=policy, action="updated", revision=revision, version=2, actor="eve", at=at(ms))


def applied(peer: str, revision: int, received: float, done: float, error: str = "") -> PolicyApplied:
    return PolicyApplied(
        peer=peer, epoch=1, revision=revision, ok=not error, duration_ms=1, error=error, at=at(done + 5), delivered_at=at(received),
        applied_at=at(done),
    )  # fmt: skip


def tunnel(peer: str, state: TunnelState, ms: float) -> TunnelChanged:
    status = TunnelStatus(name="hub+gw1", state=state)
    return TunnelChanged(
        peer=peer, tunnel="hub+gw1", state=state, previous=TunnelState.DOWN, removed=False, status=status, at=at(ms)
    )


EVENTS = [
    stored(change(6, ms=-90_000), "1" * 32),
    stored(applied("gw1", 6, -89_990, -89_900), "1" * 32),
    stored(change(7)),
    stored(applied("hub", 7, 4, 30)),
    stored(applied("gw1", 7, 6, 80, "charon refuses it")),
    stored(tunnel("hub", TunnelState.UP, 160)),
    stored(tunnel("hub", TunnelState.DOWN, 9_000), "2" * 32),  # later, for another reason
    {"type": "warren.peer.enrolled.v1", "data": {}},
    {"type": PolicyChanged.TYPE, "data": {"revision": "of another version"}},
    {"type": PolicyApplied.TYPE},
]


def test_the_steps_of_a_revision_are_those_of_its_trace() -> None:
    found = waterfall(EVENTS, 7)
    assert found is not None
    assert (found.trace_id, found.at) == (TRACE, NOW)
    assert [(it.where, it.what, it.start_ms, it.took_ms) for it in found.steps] == [
        ("policy", "star updated by eve", 0, None),
        ("hub", "applied", 4, 26),
        ("gw1", "not applied: charon refuses it", 6, 74),
        ("hub", "hub+gw1: down to up", 160, None),
    ]
    assert [it.ok for it in found.steps] == [True, True, False, True]


def test_the_last_step_is_the_first_packet_through_the_new_sa() -> None:
    passed = TunnelChanged.model_validate(
        {**tunnel("hub", TunnelState.UP, 10_020).model_dump(), "previous": TunnelState.UP, "first_packet_at": at(180)}
    )
    found = waterfall([*EVENTS, stored(passed)], 7)
    assert found is not None
    assert [(it.where, it.what, it.start_ms) for it in found.steps[-2:]] == [
        ("hub", "hub+gw1: down to up", 160), ("hub", "hub+gw1: first packet", 180),
    ]  # fmt: skip


def test_the_newest_revision_is_meant_where_none_is_named() -> None:
    assert newest_revision(EVENTS) == 7
    assert newest_revision(EVENTS[7:]) is None
    assert waterfall(EVENTS, 8) is None


def test_a_clock_that_is_behind_begins_at_nothing() -> None:
    found = waterfall([stored(change(7)), stored(applied("gw1", 7, -60_000, -59_990))], 7)
    assert found is not None
    assert [(it.where, it.start_ms, it.took_ms) for it in found.steps] == [("gw1", 0, 10), ("policy", 0, None)]


def test_bars_share_one_scale() -> None:
    found = waterfall(EVENTS, 7)
    assert found is not None
    drawn = bars(found.steps)
    assert {len(bar) for bar in drawn} == {BAR}
    assert drawn[0].startswith("#.")
    assert drawn[-1].endswith(".#")
    assert drawn[2].count("#") > drawn[1].count("#") > 1
    assert bars(()) == []
