"""Backoff: pauses double up to the limit, and jitter only shortens them."""

import pytest

from warren_process.backoff import Backoff, pause_s


def test_pauses_double_up_to_the_limit() -> None:
    pauses = [pause_s(failures, 1.0, first_s=0.1, limit_s=1.0) for failures in range(6)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert pause_s(10_000, 1.0, first_s=0.1, limit_s=5.0) == 5.0


@pytest.mark.parametrize(("fraction", "pause"), [(0.0, 1.5), (0.5, 1.75), (1.0, 2.0)])
def test_jitter_shortens_a_pause_down_to_its_least_part(fraction: float, pause: float) -> None:
    assert pause_s(1, fraction, first_s=1.0, limit_s=60.0, least=0.75) == pytest.approx(pause)


def test_a_success_starts_again_with_the_first_pause() -> None:
    backoff = Backoff(0.5, 4.0, lambda: 1.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    backoff.reset()
    assert backoff.next_s() == 0.5
