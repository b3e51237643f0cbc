"""The run of a charon, from what it says of its start and from the host's clocks."""

from datetime import UTC, datetime
from math import floor

from hypothesis import given
from hypothesis import strategies as st

from warren_agent.drivers.strongswan.daemon_run import COARSE_S, HostClocks, parse_run

DAY = 1_796_000_000  # Unix time


def said(started: float, clocks: HostClocks) -> str:
    """As charon computes it: `started` is of the monotonic clock."""
    since = floor(clocks.time) - (floor(clocks.monotonic) - floor(started))
    return datetime.fromtimestamp(since, UTC).strftime("%b %d %H:%M:%S %Y")


times = st.floats(0, 1_000, allow_nan=False)


@given(times, times, times, times, st.floats(0, 0.5))
def test_run_is_the_same_at_every_reading_and_after_a_correction_of_the_time_of_day(
    day: float, corrected: float, running: float, later: float, took: float
) -> None:
    def read(day: float, monotonic: float) -> str | None:
        asked = HostClocks(DAY + day, monotonic)
        answered = HostClocks(asked.time + took, monotonic + took)
        between = HostClocks(asked.time + took / 2, monotonic + took / 2)
        return parse_run(said(100.7, between), asked, answered, "boot")

    runs = {read(day, 101 + running), read(corrected, 101 + running + later)}
    assert len(runs - {None}) <= 1


def test_second_that_begins_meanwhile_asks_for_another_reading() -> None:
    for before, after in (
        (HostClocks(DAY + 0.9, 50.1), HostClocks(DAY + 1.0, 50.2)),
        (HostClocks(DAY + 0.5, 50.9), HostClocks(DAY + 0.6, 51.0)),
        (
            HostClocks(DAY + COARSE_S / 2, 50.1),
            HostClocks(DAY + 0.1, 50.2),
        ),  # time(2) may still be of the second before
    ):
        assert parse_run("Nov 30 02:04:20 2026", before, after, "boot") is None


def test_another_start_and_another_boot_are_other_runs_and_no_time_is_none() -> None:
    clocks = HostClocks(DAY + 0.5, 200.5)
    runs = [parse_run(said(start, clocks), clocks, clocks, boot) for start, boot in ((10, "a"), (11, "a"), (10, "b"))]
    assert len(set(runs)) == 3
    assert all(run is not None and len(run) == 16 for run in runs)
    assert [parse_run(text, clocks, clocks, "a") for text in ("", "today", "Nov 31 02:04:20 2026")] == ["", "", ""]
