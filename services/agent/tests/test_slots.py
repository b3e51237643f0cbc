"""Which tunnels are started: three at a time, and peers that do not answer delay no other."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from warren_agent.domain import watchdog
from warren_agent.domain.slots import FRESH_PATIENCE, SILENT_PATIENCE, SILENT_SLOTS, SLOTS, schedule
from warren_agent.domain.watchdog import INITIATION_SPACING, Watch
from warren_testkit.examples import examples

NEW = Watch(initiator=True, can_start=True, since=0.0)
SILENT = replace(NEW, unanswered=1, failures=1)


def flying(since: float, watch: Watch = NEW) -> Watch:
    return replace(watch, attempt=since)


def test_three_of_many_are_started_and_the_others_wait_for_a_result() -> None:
    plan = schedule({f"t{n}": NEW for n in range(10)}, 1.0)
    assert (plan.give_up, plan.start, plan.wait) == ((), ("t0", "t1", "t2"), FRESH_PATIENCE)


def test_nothing_to_do_waits_for_an_event() -> None:
    assert schedule({}, 1.0) == ((), (), None)
    assert schedule({"up": replace(NEW, converged=True)}, 1.0) == ((), (), None)


def test_silent_attempt_is_given_up_for_a_tunnel_that_waits_and_only_then() -> None:
    held = {f"t{n}": flying(0.0) for n in range(SLOTS)}
    assert schedule(held, 1.0).give_up == ()
    plan = schedule(held | {"new": NEW}, 1.0)
    assert (len(plan.give_up), plan.start) == (1, ("new",))
    assert schedule(held | {"new": NEW}, 0.2).wait == FRESH_PATIENCE - 0.2


def test_attempt_that_the_peer_has_answered_keeps_its_slot() -> None:
    held = {f"t{n}": replace(flying(0.0), answered=True) for n in range(SLOTS)}
    assert schedule(held | {"new": NEW}, 5.0).start == ()


def test_tunnels_that_nobody_answers_leave_a_slot_for_the_others() -> None:
    dead = {f"dead{n}": SILENT for n in range(16)}
    assert len(schedule(dead, 1.0).start) == SILENT_SLOTS
    plan = schedule({f"in{n}": flying(0.9, SILENT) for n in range(SILENT_SLOTS)} | dead | {"z": NEW}, 1.0)
    assert plan.start == ("z",)  # at once, though it comes last by name and two attempts have just begun
    later = {f"in{n}": flying(0.0, SILENT) for n in range(SILENT_SLOTS)} | {"dead": SILENT}
    assert schedule(later, SILENT_PATIENCE - 1).start == ()
    assert (len(schedule(later, SILENT_PATIENCE).give_up), schedule(later, SILENT_PATIENCE).start) == (1, ("dead",))


def test_attempt_without_a_result_is_begun_again_after_its_time() -> None:
    assert schedule({"t": flying(0.0)}, 1.0).wait == INITIATION_SPACING - 1.0
    assert schedule({"t": flying(0.0)}, INITIATION_SPACING).give_up == ("t",)


@examples(40)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=20))
def test_there_are_never_more_in_flight_than_slots_and_every_living_peer_has_its_turn(
    peers: list[tuple[bool, int]],
) -> None:
    """Peers that answer do so within 0.1 s; the others never do."""
    watches = {f"t{n}": replace(NEW, unanswered=silent, failures=silent) for n, (_, silent) in enumerate(peers)}
    living = {f"t{n}" for n, (lives, _) in enumerate(peers) if lives}
    now = 0.0
    for _ in range(4_000):
        plan = schedule(watches, now)
        for name in plan.give_up:
            watches[name] = watchdog.preempted(watches[name], now)
        for name in plan.start:
            watches[name] = watchdog.started(watches[name], now)
        assert sum(it.attempt is not None for it in watches.values()) <= SLOTS
        if all(watches[name].converged for name in living):
            break
        now += min(0.1, plan.wait if plan.wait is not None else 0.1) or 0.001
        for name in living:
            if (at := watches[name].attempt) is not None and now - at >= 0.1:
                watches[name] = watchdog.observed(watches[name], True, False, now)
    assert all(watches[name].converged for name in living)
    assert now <= (FRESH_PATIENCE + SILENT_PATIENCE) * len(peers)
