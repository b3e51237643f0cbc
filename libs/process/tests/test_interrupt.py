"""Ctrl-C while a command imports its modules."""

import signal
from collections.abc import Iterator

import pytest

from warren_process.interrupt import silent_interrupt


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_signal_ends_the_process_inside_and_is_an_exception_again_outside() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with silent_interrupt():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_process_that_was_started_to_ignore_the_signal_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with silent_interrupt():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
