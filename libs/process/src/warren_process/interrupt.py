"""Ctrl-C while a command still imports its modules. Imports nothing itself but what Python has loaded."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_interrupt() -> Iterator[None]:
    """Inside, SIGINT ends the process without a traceback, unless it was started to ignore the signal."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
