"""The bytes of each minute of the last hour: unknown is not zero, counters begin again, and memory is bounded."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_metrics.domain import recent_counters
from warren_metrics.domain.recent_counters import MINUTES, RecentCounters, minute_of

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = ("hub", "hub+s1")


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def values(recent: RecentCounters, now: float) -> list[int | None]:
    """The bytes received, minute by minute, up to this one."""
    return list(recent.of("hub+s1", ("hub", "s1"), at(now)).ends["hub"].bytes_in)


def test_a_minute_without_a_report_is_unknown_and_one_without_traffic_is_zero() -> None:
    recent = RecentCounters()
    for minute, total in ((0.2, 100), (0.8, 150), (1.5, 400), (3.1, 400), (4.0, 1_000)):
        recent.reported("hub", minute_of(at(minute)))
        recent.record(KEY, minute_of(at(minute)), total, 0)
    assert values(recent, 4.5)[-5:] == [50, 250, None, 0, 600]
    assert set(values(recent, 4.5)[:-5]) == {None}


def test_counters_that_begin_again_count_from_zero() -> None:
    recent = RecentCounters()
    for minute, total in ((0, 1_000), (1, 1_200), (2, 30)):
        recent.reported("hub", minute_of(at(minute)))
        recent.record(KEY, minute_of(at(minute)), total, 0)
    assert values(recent, 2)[-3:] == [0, 200, 30]


def test_what_is_older_than_an_hour_is_gone() -> None:
    recent = RecentCounters()
    for minute, total in ((0, 0), (1, 500), (1 + MINUTES, 600)):
        recent.reported("hub", minute_of(at(minute)))
        recent.record(KEY, minute_of(at(minute)), total, 0)
    assert values(recent, 1 + MINUTES) == [None] * (MINUTES - 1) + [100]


def test_no_further_ends_than_the_limit_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_counters, "MAX_ENDS", 2)
    recent = RecentCounters()
    for name in ("a", "b", "c"):
        recent.record(("hub", name), minute_of(at(0)), 1, 1)
    assert [len(recent.of(name, ("hub",), at(0)).ends) for name in ("a", "b", "c")] == [1, 1, 0]
    recent.record(("hub", "a"), minute_of(at(MINUTES)), 2, 2)
    recent.record(("hub", "c"), minute_of(at(MINUTES)), 1, 1)  # `b` was silent for an hour
    assert [len(recent.of(name, ("hub",), at(MINUTES)).ends) for name in ("a", "b", "c")] == [1, 0, 1]


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 10**6)), max_size=80))
def test_the_sum_of_the_minutes_is_what_the_counters_grew_by(steps: list[tuple[int, int]]) -> None:
    recent, total, grown = RecentCounters(), 0, dict.fromkeys(range(200), 0)
    minute = 0
    recent.record(KEY, minute_of(at(0)), 0, 0)
    for index, (pause, growth) in enumerate(steps):
        minute += pause if index % 3 == 0 else 0
        total += growth
        if minute in grown:
            grown[minute] += growth
        else:
            grown[minute] = growth
        recent.reported("hub", minute_of(at(minute)))
        recent.record(KEY, minute_of(at(minute)), total, 0)
    known = [it for it in values(recent, minute) if it is not None]
    expected = sum(growth for when, growth in grown.items() if minute - MINUTES < when <= minute)
    assert sum(known) == pytest.approx(expected, rel=1e-5, abs=1)
