"""The pauses before the client connects again."""

from warren_vpn.client.pauses import LIMIT_S, STABLE_S, Pauses


def half() -> float:
    return 0.5


def test_the_first_loss_costs_no_time_and_those_that_follow_soon_cost_more_and_more() -> None:
    pauses = Pauses(half)
    assert pauses.after_session(1.0) == 0.0
    found = [pauses.after_session(1.0) for _ in range(10)]
    assert found == sorted(found)
    assert found[0] > 0
    assert LIMIT_S / 2 <= found[-1] <= LIMIT_S


def test_a_session_that_has_lasted_ends_the_row() -> None:
    pauses = Pauses(half)
    for _ in range(5):
        pauses.after_session(1.0)
    assert pauses.after_session(STABLE_S) == 0.0
    assert pauses.after_session(1.0) < 2.0


def test_the_pauses_between_rounds_start_again_after_a_connection() -> None:
    pauses = Pauses(half)
    first = pauses.after_round()
    assert pauses.after_round() > first
    pauses.connected()
    assert pauses.after_round() == first
