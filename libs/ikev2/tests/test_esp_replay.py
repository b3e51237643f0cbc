"""The anti-replay window and ESN, against simple models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_ikev2.esp.drops import DropReason, PacketDroppedError
from warren_ikev2.esp.replay import ReplayWindow

CYCLE = 1 << 32


def accepts(window: ReplayWindow, sequence: int) -> bool:
    try:
        window.check(sequence)
    except PacketDroppedError as error:
        return error.reason is not DropReason.REPLAY
    window.update(sequence)
    return True


def test_each_number_is_accepted_once() -> None:
    window = ReplayWindow(64)
    assert [accepts(window, n) for n in (1, 2, 2, 5, 3, 4, 3, 70, 6, 7, 134)] == [
        True, True, False, True, True, True, False, True, False, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize("number", [0, -1])
def test_zero_is_never_a_sequence_number(number: int) -> None:
    assert not accepts(ReplayWindow(64), number)


@pytest.mark.parametrize("size", [0, 32, 63, 100])
def test_a_small_or_odd_window_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        ReplayWindow(size)


@given(st.lists(st.integers(1, 400), max_size=200), st.sampled_from([64, 128]))
def test_the_ring_agrees_with_a_set(numbers: list[int], size: int) -> None:
    window, seen, top = ReplayWindow(size), set[int](), 0
    for number in numbers:
        expected = number not in seen and number > top - size
        assert accepts(window, number) is expected
        if expected:
            seen.add(number)
            top = max(top, number)


@given(st.integers(1, 5 * CYCLE), st.integers(-63, 1 << 31))
def test_the_high_half_is_inferred_for_every_number_near_the_window(top: int, offset: int) -> None:
    """Appendix A2: every number inside the window, and up to 2^31 ahead of it, is reconstructed from its low half."""
    window = ReplayWindow(64, esn=True)
    window.update(top)
    number = top + offset
    if number > 0:
        assert window.infer(number % CYCLE) == number


def test_the_window_spans_a_cycle() -> None:
    window = ReplayWindow(64, esn=True)
    window.update(CYCLE - 2)
    assert [window.infer(low) for low in (CYCLE - 1, 0, 1)] == [CYCLE - 1, CYCLE, CYCLE + 1]
    assert accepts(window, CYCLE + 3)
    assert window.infer(CYCLE - 1) == CYCLE - 1
    assert accepts(window, CYCLE - 1)
    assert not accepts(window, CYCLE - 2)


def test_without_esn_the_number_is_that_of_the_header() -> None:
    window = ReplayWindow(64)
    window.update(CYCLE - 1)
    assert window.infer(5) == 5
    assert not accepts(window, 5)
