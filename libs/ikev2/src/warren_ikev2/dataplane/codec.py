"""Messages between processes: frozen dataclasses as JSON and back, by their annotations.

A message that is read has exactly the fields of its class, each of its type and within these bounds.
"""

import dataclasses
import enum
import json
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


class MessageCodec:
    """Messages of several classes. Each is a list that ends with the name of its class and its fields."""

    def __init__(self, *kinds: type) -> None:
        self._kinds = {kind.__name__: kind for kind in kinds}

    def build(self, message: Any, *head: int) -> bytes:
        """The bytes of a message; the list begins with `head`."""
        return json.dumps([*head, type(message).__name__, _to_plain(message)], separators=(",", ":")).encode()

    def parse(self, data: bytes, head_size: int = 0) -> list[Any]:
        """The head, which is not validated, and the message. Raises `ValueError` for anything that `build` does not produce."""
        try:
            *head, name, fields = json.loads(data)
            kind = self._kinds[name]
        except (ValueError, TypeError, KeyError, RecursionError):
            head, name, fields, kind = [], "", None, None
        if kind is None or len(head) != head_size:
            raise ValueError("a message is malformed")
        try:
            return [*head, _Reader.record(kind, fields)]
        except (ValueError, TypeError):
            raise ValueError(f"{name} has an invalid field") from None


def _to_plain(value: Any) -> Any:
    """A value as JSON has it."""
    if dataclasses.is_dataclass(value):
        return {field.name: _to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
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
