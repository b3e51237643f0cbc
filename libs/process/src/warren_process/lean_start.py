"""Keeps costly conveniences out of processes: all out of those that have to stay small, the agent and the guard. Imports nothing itself.

pydantic would look through every installed distribution for plugins: 1 MB and some 50 ms, and 1.7 MB for importlib.metadata, which
it imports even when plugins are off; it loads what writes JSON schemas: 0.4 MB, and the types of its schemas, which nobody reads:
0.5 MB. inspect would load the parsers of Python's syntax and byte code: 0.6 MB. nats-py would load its JetStream client, with a
parser of e-mail: 1.3 MB; the agent publishes by requests. structlog would load pickle for the name of one error: 0.4 MB, its
renderer for terminals, and, where they are installed, rich for pretty tracebacks: 9 MB, and greenlet for contexts that nothing here
has: 1 MB. zoneinfo, which pydantic imports, would load Python's build configuration for the folder of the time zones: 0.8 MB; both
processes use UTC only.

What is needed after all is imported later, by its name: no stand-in stays in `sys.modules` but that of the JSON schemas, for which
pydantic asks with each schema that it builds.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import ModuleType

METADATA, PICKLE, JETSTREAM = "importlib.metadata", "pickle", "nats.js"
UNUSED = ("structlog.dev", "structlog.testing", "zoneinfo")
NEVER_USED = "pydantic.json_schema"
# Of CPython's Include/code.h; inspect makes its CO_ constants of it.
CODE_FLAGS = {
    1: "OPTIMIZED", 2: "NEWLOCALS", 4: "VARARGS", 8: "VARKEYWORDS", 16: "NESTED", 32: "GENERATOR", 64: "NOFREE", 128: "COROUTINE",
    256: "ITERABLE_COROUTINE", 512: "ASYNC_GENERATOR",
}  # fmt: skip


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
        _Deferred("ast", NodeVisitor=type("NodeVisitor", (), {})),
        _Deferred("dis", COMPILER_FLAG_NAMES=CODE_FLAGS),
        _Deferred("tokenize"),
    ]
    jetstream = _without_jetstream()
    modules.setdefault(NEVER_USED, _unused(NEVER_USED))
    for stand_in in (*stand_ins, jetstream):
        modules.setdefault(stand_in.__name__, stand_in)
    _import_untyped_schemas()
    yield
    for stand_in in (*stand_ins, jetstream):
        if modules.get(stand_in.__name__) is stand_in:
            del modules[stand_in.__name__]  # the agent's catalogue of drivers imports the real one where it is needed
    nats = modules.get("nats")
    if nats is not None and not hasattr(nats, "js"):
        nats.js = jetstream  # type: ignore[attr-defined]  # as its import would have done


class _Deferred(ModuleType):
    """A stand-in that has the given names of a module, and imports the module for any other."""

    def __init__(self, name: str, **names: object) -> None:
        super().__init__(name)
        vars(self).update(names)

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        name = self.__name__
        if sys.modules.get(name) is self:
            del sys.modules[name]
        __import__(name)
        return getattr(sys.modules[name], attribute)


class _JetStreamHeader(StrEnum):
    """The headers that nats-py's client asks of JetStream's names."""

    STATUS = "Status"
    DESCRIPTION = "Description"
    CONSUMER_STALLED = "Nats-Consumer-Stalled"


def _without_jetstream() -> ModuleType:
    """A stand-in for nats-py's JetStream client, of which its client of NATS itself asks the names of headers."""
    return _Deferred(JETSTREAM, api=_Deferred(f"{JETSTREAM}.api", Header=_JetStreamHeader))


def _import_untyped_schemas() -> None:
    """pydantic describes its schemas by a hundred types of dictionaries: it calls some, and asks none for its fields."""
    import typing

    source: ModuleType = typing
    if sys.version_info < (3, 12):
        import typing_extensions

        source = typing_extensions

    class Untyped:
        def __init_subclass__(cls, *, total: bool = True) -> None:
            cls.__annotations__ = {}

        def __new__(cls, **fields: object) -> dict[str, object]:  # type: ignore[misc]  # as a TypedDict
            return fields

    typed = source.TypedDict
    source.TypedDict = Untyped  # type: ignore[attr-defined]
    try:
        import pydantic_core.core_schema  # noqa: F401
    finally:
        source.TypedDict = typed  # type: ignore[attr-defined]


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
        made = type(attribute, (), {"__init__": lambda self, *_, **__: None})
        setattr(module, attribute, made)  # one for each name: some are imported with each call of a function
        return made

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
