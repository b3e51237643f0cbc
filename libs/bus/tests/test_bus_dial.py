"""Waits between tries: jittered, growing, bounded, and longer for a client that was refused."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from warren_bus.dial import AWAY_LIMIT, FIRST_WAIT, REFUSED_LIMIT, Backoff


def waits(backoff: Backoff, tries: int = 40) -> list[float]:
    return [backoff.next() for _ in range(tries)]


@given(seed=st.integers())
def test_waits_grow_to_a_limit_and_never_beyond(seed: int) -> None:
    found = waits(Backoff(Random(seed)))
    assert found[0] <= FIRST_WAIT
    assert max(found) <= AWAY_LIMIT
    assert min(found[10:]) >= AWAY_LIMIT / 4


def test_a_refused_client_waits_for_minutes() -> None:
    backoff = Backoff(Random(1))
    backoff.failed(RuntimeError("nats: 'Authorization Violation'"))
    found = waits(backoff)
    assert AWAY_LIMIT < max(found) <= REFUSED_LIMIT
    backoff.failed(ConnectionRefusedError())
    assert max(waits(backoff)) <= AWAY_LIMIT


def test_success_begins_anew() -> None:
    backoff = Backoff(Random(1))
    waits(backoff)
    backoff.succeeded()
    assert backoff.next() <= FIRST_WAIT


def test_a_fleet_does_not_return_as_one_wave() -> None:
    fleet = [Backoff(Random(number)) for number in range(1_000)]
    for backoff in fleet:
        waits(backoff, 10)
    moments = sorted(backoff.next() for backoff in fleet)
    busiest = max(sum(1 for moment in moments if start <= moment < start + 0.5) for start in range(int(AWAY_LIMIT)))
    assert busiest < 150  # of 1,000 in any half second; a fixed wait would bring all
