"""What all tests share."""

import logging
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# Examples are the same in every run, and judged by their result: how long one takes depends on what else the machine does.
settings.register_profile("warren", deadline=None, derandomize=True)
settings.load_profile("warren")

# A shell starts a background job with SIGINT ignored, and processes that the tests start and interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands and services configure the logging of their whole process: a test that runs one in ours leaves no trace."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
