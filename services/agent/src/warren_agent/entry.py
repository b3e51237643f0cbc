"""What `warren-agent` starts: keeps two costly conveniences out of the process, then runs the command.

Where rich is installed (next to the command `warren`), structlog would load it for pretty tracebacks: 9 MB. pydantic would
look through every installed distribution for plugins: another 1 MB and some 50 ms. Ctrl-C during the imports ends the process
without a word.
"""

import os
import signal
import sys
from types import ModuleType


def main() -> None:
    """See `warren_agent.main.main`."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:  # otherwise somebody started us to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: "may not be imported"
    for name in ("rich", "better_exceptions"):
        modules.setdefault(name, None)
    from warren_agent.main import main as run

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
