"""Frozen dataclasses as JSON and back, by their annotations: for messages between processes.

What is read has exactly the fields of its class, each of its type and within these bounds.
"""

import dataclasses
import enum
import math
import types
import typing
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, ClassVar

MAX_ITEMS = 1024
"""Of one list or object."""
MAX_TEXT = 256
"""Characters of one string."""
_MAX_INTEGER = (1 << 64) - 1


def read_record(kind: type, fields: Any) -> Any:
    """Build a dataclass from JSON. Raises `ValueError` or `TypeError` for anything that `to_plain` does not produce."""
    return _Reader.record(kind, fields)


def to_plain(value: Any) -> Any:
    """A value as JSON has it."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


class _Reader:
    """Builds values of annotated types from JSON; `ValueError` or `TypeError` for what does not fit."""

    _hints: ClassVar[dict[type, dict[str, Any]]] = {}

    @classmethod
    def record(cls, kind: type, fields: Any) -> Any:
        hints = cls._hints.get(kind)
        if hints is None:
            hints = cls._hints[kind] = typing.get_type_hints(kind)
        if not isinstance(fields, dict) or fields.keys() != {field.name for field in dataclasses.fields(kind)}:
            raise ValueError
        return kind(**{name: cls.value(hints[name], value) for name, value in fields.items()})

    @classmethod
    def value(cls, hint: Any, value: Any) -> Any:
        if isinstance(hint, types.UnionType):
            return cls._union(hint, value)
        origin = typing.get_origin(hint)
        if origin is tuple:
            return tuple(cls.value(typing.get_args(hint)[0], item) for item in _items(value, list))
        if origin is dict:
            return {_text(name): _integer(number) for name, number in _items(value, dict).items()}
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return cls.record(hint, value)
        if issubclass(hint, enum.Enum):
            return hint(value)
        return _SIMPLE[hint](value)

    @classmethod
    def _union(cls, hint: types.UnionType, value: Any) -> Any:
        kinds = typing.get_args(hint)
        if kinds == (IPv4Address, IPv6Address):
            return ip_address(_text(value))
        if value is None and types.NoneType in kinds:
            return None
        return cls.value(next(kind for kind in kinds if kind is not types.NoneType), value)


def _items(value: Any, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    if not isinstance(value, kind) or len(value) > MAX_ITEMS:
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INTEGER:
        raise ValueError
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError
    return float(value)


_SIMPLE: dict[Any, Any] = {
    int: _integer,
    bool: _boolean,
    float: _number,
    str: _text,
    bytes: bytes.fromhex,
}
