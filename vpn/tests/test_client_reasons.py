"""What the client says of failures."""

import signal

import pytest

from warren_vpn.client.reasons import data_process_ended


@pytest.mark.parametrize(
    ("exit_code", "how"),
    [
        (-signal.SIGKILL, "by SIGKILL"),
        (-signal.SIGSYS, "by SIGSYS"),
        (1, "with exit code 1"),
        (None, "with exit code None"),
        (-99, "-99"),
    ],
)
def test_the_end_of_a_data_process_is_named(exit_code: int | None, how: str) -> None:
    said = data_process_ended(exit_code)
    assert how in said
    assert "another one is started" in said
