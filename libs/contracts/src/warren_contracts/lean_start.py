"""Keeps costly conveniences out of processes that have to stay small, the agent and the guard. Imports nothing itself.

pydantic would look through every installed distribution for plugins: 1 MB and some 50 ms, and 1.7 MB for importlib.metadata, which
it imports even when plugins are off. structlog would load pickle for the name of one error: 0.4 MB, and rich, where that is
installed, for pretty tracebacks: 9 MB. zoneinfo, which pydantic imports, would load Python's build configuration for the folder of
the time zones: 0.6 MB; both processes use UTC alone.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

METADATA, PICKLE = "importlib.metadata", "pickle"


@contextmanager
def lean_imports(*never: str) -> Iterator[None]:
    """Import what a process consists of inside; the modules `never` may not be imported afterwards either."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("PYTHONTZPATH", "/usr/share/zoneinfo")
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: "may not be imported"
    for name in ("rich", "better_exceptions", *never):
        modules.setdefault(name, None)
    stand_ins = [_without_entry_points(), _without_pickling()]
    for stand_in in stand_ins:
        modules.setdefault(stand_in.__name__, stand_in)
    yield
    for stand_in in stand_ins:
        if modules[stand_in.__name__] is stand_in:
            del modules[stand_in.__name__]  # the agent's catalogue of drivers imports the real one where it is needed


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
