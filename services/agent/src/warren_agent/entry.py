"""What `warren-agent` starts: keeps costly conveniences out of the process, then runs the command.

Where rich is installed (next to the command `warren`), structlog would load it for pretty tracebacks: 9 MB. pydantic would
look through every installed distribution for plugins: 1 MB and some 50 ms, and 1.7 MB for importlib.metadata, which it imports
even when plugins are off. structlog would load pickle for the name of one error: 0.4 MB. zoneinfo, which pydantic imports, would
load Python's build configuration for the folder of the time zones: 0.6 MB; the agent uses UTC alone. Ctrl-C during the imports
ends the process without a word.
"""

import os
import signal
import sys
from types import ModuleType

METADATA, PICKLE = "importlib.metadata", "pickle"


def main() -> None:
    """See `warren_agent.main.main`."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:  # otherwise somebody started us to ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("PYTHONTZPATH", "/usr/share/zoneinfo")
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: "may not be imported"
    for name in ("rich", "better_exceptions"):
        modules.setdefault(name, None)
    stand_ins = [_without_entry_points(), _without_pickling()]
    for stand_in in stand_ins:
        modules.setdefault(stand_in.__name__, stand_in)
    from warren_agent.main import main as run

    for stand_in in stand_ins:
        if modules[stand_in.__name__] is stand_in:
            del modules[stand_in.__name__]  # the catalogue of drivers imports the real one where it is needed
    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _without_pickling() -> ModuleType:
    """A stand-in for pickle: nothing here is pickled."""
    module = ModuleType(PICKLE)
    module.PicklingError = type("PicklingError", (Exception,), {})  # type: ignore[attr-defined]
    return module


def _without_entry_points() -> ModuleType:
    """A stand-in for importlib.metadata that names no plugin."""
    module = ModuleType(METADATA)
    module.entry_points = lambda **_: ()  # type: ignore[attr-defined]
    return module
