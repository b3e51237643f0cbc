"""What all tests share."""

import gc
import logging
import signal
from collections.abc import Iterator

import pytest
import structlog

from warren_testkit.examples import load_profile

load_profile()
# What is imported stays: a collector with its usual thresholds looks at all of it again and again, for a seventh of the time.
gc.set_threshold(50_000, 20, 20)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


# A shell starts a background job with SIGINT ignored, and processes that the tests start and interrupt would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# As structlog is at its import, but with plain tracebacks: it takes seconds to render one in colours.
PLAIN_TRACEBACKS = [
    *structlog.get_config()["processors"][:-1],
    structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
]


def reset_structlog() -> None:
    structlog.reset_defaults()
    structlog.configure(processors=PLAIN_TRACEBACKS)


reset_structlog()


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands and services configure the logging of their whole process: a test that runs one in ours leaves no trace."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    reset_structlog()
    structlog.contextvars.clear_contextvars()
