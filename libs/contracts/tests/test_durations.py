"""Durations as people write them."""

import pytest

from warren_contracts.durations import parse_duration


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)])
def test_a_number_and_a_unit_are_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "7w", "-7d", "1.5h", "1234567890s", "7d\n", "٣s"])
def test_anything_else_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None
