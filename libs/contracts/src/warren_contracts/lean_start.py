"""Keeps costly conveniences out of processes: all out of those that have to stay small, the agent and the guard. Imports nothing itself.

pydantic would look through every installed distribution for plugins: 1 MB and some 50 ms, and 1.7 MB for importlib.metadata, which
it imports even when plugins are off; and it loads what writes JSON schemas: 0.4 MB. nats-py would load the parser of e-mail for headers
that none of our processes lets it parse (0.5 MB), and its key-value and object stores (0.1 MB). structlog would load pickle for the
name of one error: 0.4 MB, its renderer for terminals, and, where they are installed, rich for pretty tracebacks: 9 MB, and greenlet for
contexts that nothing here has: 1 MB. zoneinfo, which
pydantic imports, would load Python's build configuration for the folder of the time zones: 0.8 MB; both processes use UTC alone.

What is needed after all is imported later, by its name: no stand-in stays in `sys.modules`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

METADATA, PICKLE = "importlib.metadata", "pickle"
UNUSED = (
    "email.parser",
    "nats.js.kv",
    "nats.js.object_store",
    "pydantic.json_schema",
    "structlog.dev",
    "structlog.testing",
    "zoneinfo",
)


@contextmanager
def lean_imports(*never: str) -> Iterator[None]:
    """Import what a process consists of inside; the modules `never` may not be imported afterwards either."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("PYTHONTZPATH", "/usr/share/zoneinfo")
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # None: "may not be imported"
    without_pretty_tracebacks()
    for name in ("greenlet", *never):
        modules.setdefault(name, None)
    stand_ins = [
        _without_entry_points(),
        _without_pickling(),
        _without_locales(),
        _without_platform(),
        *map(_unused, UNUSED),
    ]
    for stand_in in stand_ins:
        modules.setdefault(stand_in.__name__, stand_in)
    yield
    for stand_in in stand_ins:
        if modules[stand_in.__name__] is stand_in:
            del modules[stand_in.__name__]  # the agent's catalogue of drivers imports the real one where it is needed


def without_pretty_tracebacks() -> None:
    """Let structlog load none of the packages for tracebacks in colours: 9 MB, and 60 ms of a service's start."""
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    for name in ("rich", "better_exceptions"):
        modules.setdefault(name, None)


def _without_locales() -> ModuleType:
    """A stand-in for locale, whose table of a thousand names subprocess imports for the encoding of text that it reads."""
    module = ModuleType("locale")
    module.getencoding = sys.getfilesystemencoding  # type: ignore[attr-defined]
    return module


def _without_platform() -> ModuleType:
    """A stand-in for platform, of which uuid asks the name of the system."""
    module = ModuleType("platform")
    module.system = lambda: sys.platform.capitalize()  # type: ignore[attr-defined]
    return module


def _unused(name: str) -> ModuleType:
    """A stand-in whose names are classes that do nothing."""
    module = ModuleType(name)

    def empty(attribute: str) -> type:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return type(attribute, (), {"__init__": lambda self, *_, **__: None})

    module.__getattr__ = empty  # type: ignore[method-assign]
    return module


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
