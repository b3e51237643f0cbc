"""When a tunnel is started: at once by its initiator, after 30 s down by the other end, never both by rule."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_agent.domain import watchdog
from warren_agent.domain.watchdog import (
    EDIT_TAKEOVER_AFTER,
    INITIATION_SPACING,
    LAST_SILENT_WAIT,
    LAST_WAIT,
    PREEMPTED_WAIT,
    SETTLE,
    Watch,
    due_at,
)
from warren_agent.drivers.port import TAKEOVER_AFTER
from warren_intent.expand import expand
from warren_testkit.intent import directory, published, record

STAR = published("star", hubs=["tag=hub"], spokes=["tag=branch"])
FLEET = directory(record("hub", 1, "hub"), record("spoke", 2, "branch"))
(AT_SPOKE,) = expand([STAR], FLEET, "spoke")
(AT_HUB,) = expand([STAR], FLEET, "hub")


@pytest.fixture
def spoke() -> Watch:
    return watchdog.put(AT_SPOKE, now=100.0)


@pytest.fixture
def hub() -> Watch:
    return watchdog.put(AT_HUB, now=100.0)


def test_initiator_starts_a_new_tunnel_at_once(spoke: Watch) -> None:
    assert due_at(spoke) == 100.0 + SETTLE


def test_other_end_starts_after_thirty_seconds(hub: Watch) -> None:
    assert due_at(hub) == 100.0 + TAKEOVER_AFTER


def test_other_end_never_starts_while_a_negotiation_is_under_way(hub: Watch) -> None:
    assert due_at(watchdog.observed(hub, converged=False, connecting=True, now=110.0)) is None


def test_settled_tunnel_is_left_alone_and_a_lost_one_is_started_at_once(spoke: Watch) -> None:
    up = watchdog.observed(watchdog.started(spoke, 100.0), converged=True, connecting=False, now=101.0)
    assert due_at(up) is None
    lost = watchdog.observed(up, converged=False, connecting=False, now=500.0)
    assert due_at(lost) == 500.0
    assert watchdog.started(lost, 500.0).restarts == 1


def test_other_end_follows_an_edit_at_once_where_the_initiator_was_faster(hub: Watch) -> None:
    """The initiator's new SAs came before this end had the edit: they carry its older configuration here."""
    up = watchdog.observed(hub, converged=True, connecting=False, now=101.0, carrying=True)
    edited = watchdog.put(AT_HUB, now=200.0, before=up)
    carried = watchdog.observed(edited, converged=False, connecting=False, now=200.1, carrying=True)
    assert due_at(carried) == 200.0 + EDIT_TAKEOVER_AFTER
    lost = watchdog.observed(carried, converged=False, connecting=False, now=200.5)
    assert due_at(lost) == 200.0 + TAKEOVER_AFTER


def test_other_end_counts_its_thirty_seconds_from_the_loss(hub: Watch) -> None:
    up = watchdog.observed(hub, converged=True, connecting=False, now=120.0)
    lost = watchdog.observed(up, converged=False, connecting=False, now=500.0)
    assert due_at(lost) == 500.0 + TAKEOVER_AFTER


def test_daemon_that_returns_gives_the_initiator_its_time_again(hub: Watch, spoke: Watch) -> None:
    assert due_at(watchdog.resumed(hub, 900.0)) == 900.0 + TAKEOVER_AFTER
    assert due_at(watchdog.resumed(watchdog.started(spoke, 100.0), 900.0)) == 900.0


def test_peer_that_does_not_answer_is_started_three_times_30_s_apart_and_then_ever_more_rarely(spoke: Watch) -> None:
    watch, now, begun = spoke, 100.0, []
    for _ in range(7):
        assert due_at(watchdog.started(watch, now)) is None  # one attempt at a time
        watch = watchdog.started(watch, now)
        begun.append(now)
        now += watchdog.attempt_limit(watch)
        watch = watchdog.failed(watch, now, jitter=0.0, answered=False)
        now = due_at(watch) or 0.0
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert gaps == [INITIATION_SPACING, INITIATION_SPACING, 60.0, LAST_SILENT_WAIT, LAST_SILENT_WAIT, LAST_SILENT_WAIT]


def test_event_that_the_peer_is_back_makes_its_tunnel_due_at_once(spoke: Watch) -> None:
    watch = spoke
    for n in range(6):
        watch = watchdog.failed(watchdog.started(watch, 100.0 * n), 100.0 * n + 30, 0.0, answered=False)
    back = watchdog.returned(watch, 1_000.0)
    assert (due_at(back), back.unanswered) == (1_000.0, 0)
    assert due_at(watchdog.returned(watchdog.started(watch, 900.0), 1_000.0)) == 1_000.0
    up = watchdog.observed(watch, converged=True, connecting=False, now=1_001.0)
    assert watchdog.returned(up, 1_002.0) == up


def test_attempt_given_up_for_another_tunnel_is_made_again_soon(spoke: Watch) -> None:
    once = watchdog.preempted(watchdog.started(spoke, 100.0), 100.5)
    assert (due_at(once), once.unanswered) == (100.5 + PREEMPTED_WAIT, 1)
    twice = watchdog.preempted(watchdog.started(once, 106.0), 111.0)
    assert due_at(twice) == 106.0 + INITIATION_SPACING


def test_waits_grow_to_their_limit_and_start_again_after_success(spoke: Watch) -> None:
    watch, now, waits = spoke, 100.0, []
    for _ in range(12):
        watch = watchdog.failed(watchdog.started(watch, now), now, jitter=0.0)
        waits.append(watch.not_before - now)
        now = watch.not_before
    assert waits[:4] == [0.25, 0.5, 1.0, 2.0]
    assert waits[-1] == LAST_WAIT
    up = watchdog.observed(watch, converged=True, connecting=False, now=now)
    lost = watchdog.observed(up, converged=False, connecting=False, now=now + 1)
    assert watchdog.failed(watchdog.started(lost, now + 1), now + 1, 0.0).not_before == now + 1.25


def test_tunnel_without_a_known_peer_address_or_auto_start_waits_for_the_peer() -> None:
    for changes in ({"remote_endpoints": ()}, {"auto_start": False}):
        assert due_at(watchdog.put(AT_SPOKE.model_copy(update=changes), now=0.0)) is None


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_wait_is_bounded_whatever_happened_before(failures: int, jitter: float) -> None:
    assert 0 < watchdog.wait(failures, jitter) <= LAST_WAIT


def test_late_failure_of_a_tunnel_that_is_up_is_ignored(spoke: Watch) -> None:
    up = watchdog.observed(watchdog.started(spoke, 100.0), converged=True, connecting=False, now=101.0)
    assert watchdog.failed(up, 102.0, 0.5) == up
