"""Texts, paths and flags of options without typer's adapters.

typer 0.29 builds a pydantic adapter for each option, a plain text too; importing pydantic takes a third of the time of a verb that
needs no model. Another version of typer does not read what is set here and works as it would without it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

_KINDS = (str, Path, bool)
# What typer would check of a path. Whether it can be read is said by the one who reads it.
_CHECKED = ("exists", "writable", "resolve_path", "allow_dash", "path_type", "parser", "click_type", "min", "max")


class PlainValue:
    """Takes what needs no parsing as it is, and hands the rest to typer. Stands in for `typer._coercion.RuntimeParam`."""

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None or isinstance(value, self._kind):
            return value
        if self._kind is Path and isinstance(value, str):
            return Path(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def take_plainly(command: Any) -> None:
    """Take the plain texts, paths and flags of a command (click's), and of those in its group, as they are written."""
    for param in getattr(command, "params", ()):
        _take(param)
    if hasattr(command, "get_help_option"):
        command.get_help_option = _taken(command.get_help_option)  # `--help` is made when the command runs
    for held in getattr(command, "commands", {}).values():
        take_plainly(held)


def _taken(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def made(context: Any) -> Any:
        param = make(context)
        _take(param)
        return param

    return made


def _take(param: Any) -> None:
    descriptor = getattr(param, "type_descriptor", None)
    if descriptor is None or param.nargs != 1 or getattr(param, "multiple", False):
        return
    info = descriptor.parameter_info
    is_any = info.file_okay and info.dir_okay and not any(getattr(info, check, None) for check in _CHECKED)
    if descriptor.annotation in _KINDS and is_any and param._runtime_param is None:
        param._runtime_param = PlainValue(descriptor.annotation)
