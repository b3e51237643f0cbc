"""Run until a signal asks to stop. Without the extra [local]: containers use it, too."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

from warren_process.stop_signals import until_signalled

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_until_signalled(main: Coroutine[Any, Any, int]) -> int:
    """Run `main` and cancel it at the first SIGINT, SIGTERM or SIGHUP; later ones are ignored while it cleans up.

    Returns its exit code, or 0 after a signal: a stop that was asked for is a success.
    """
    return asyncio.run(until_signalled(main, STOP_SIGNALS)) or 0
