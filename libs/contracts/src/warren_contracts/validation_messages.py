"""Validation messages for operators: what to write instead, without terms of Python or pydantic."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from warren_contracts.identities import IDENTITY_PATTERN
from warren_contracts.names import CHILD_NAME_PATTERN, NAME_PATTERN, PUBLIC_KEY_PATTERN, TUNNEL_NAME_PATTERN
from warren_contracts.subjects import READER_PATTERN

UNKNOWN_FIELD = "unknown field"
TOO_SHORT = "must have at least one entry"
# The kinds of each discriminated union, by the name of its field.
UNION_KINDS = {
    "topology": ("hub-spoke", "mesh", "site-to-site"),
    "auth": ("raw-key", "certificate", "psk", "eap"),
    "server_trust": ("raw-key", "certificate"),
    "login": ("password", "raw-key", "certificate"),
}

Context = Mapping[str, Any]

_WHOLE = "must be an integer, without quotes"
_FLAG = "must be true or false, without quotes"
_TEXT = "must be a string; quote it if it looks like a number or a boolean"
_LIST = "must be a list"
_MAPPING = "must be a mapping of fields"

_MESSAGES: dict[str, str | Callable[[Context], str]] = {
    "extra_forbidden": UNKNOWN_FIELD,
    "missing": "required field",
    "json_invalid": "invalid JSON",
    "too_short": TOO_SHORT,
    "too_long": lambda context: f"must have at most {context['max_length']:,} entries",
    "union_tag_invalid": lambda context: f"`kind` must be {_choices(context['expected_tags'])}",
    "union_tag_not_found": "`kind` is required",
    "string_too_long": lambda context: f"must have at most {context['max_length']:,} characters",
    "string_too_short": lambda context: f"must have at least {context['min_length']:,} characters",
    "greater_than_equal": lambda context: f"must be at least {context['ge']:,}",
    "less_than_equal": lambda context: f"must be at most {context['le']:,}",
    "greater_than": lambda context: f"must be greater than {context['gt']:,}",
    "less_than": lambda context: f"must be less than {context['lt']:,}",
    "literal_error": lambda context: f"must be {_choices(context['expected'])}",
    "enum": lambda context: f"must be {_choices(context['expected'])}",
    "string_pattern_mismatch": lambda context: _pattern(str(context["pattern"])),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size", "finite_number"), _WHOLE),
    **dict.fromkeys(("bool_type", "bool_parsing"), _FLAG),
    **dict.fromkeys(("string_type", "string_sub_type", "string_unicode"), _TEXT),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), _LIST),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"), _MAPPING),
}
_PATTERNS = {
    READER_PATTERN: "must be `all`, `tag=<tag>` or `peer=<id>`; names are 1 to 63 characters of a-z, 0-9, _ and -",
    NAME_PATTERN: "must be 1 to 63 characters of a-z, 0-9, _ and -",
    CHILD_NAME_PATTERN: "must be 1 to 31 characters of a-z, 0-9, _ and -",
    TUNNEL_NAME_PATTERN: "must be a tunnel name: 1 to 63 characters of a-z, 0-9, _ and -, or two such names joined by +",
    PUBLIC_KEY_PATTERN: "must be a raw Ed25519 public key: 32 bytes in base64, 44 characters",
    r"^[a-z0-9-]{1,63}$": "must be 1 to 63 characters of a-z, 0-9 and -",
    IDENTITY_PATTERN: "must be an identity: 1 to 255 characters, without control characters and backslashes",
}
_YES_OR_NO = frozenset({"yes", "no", "on", "off", "y", "n"})
_READERS = frozenset({"tag", "peer"})
_DURATION = re.compile(r"[0-9]{1,9} ?(?:ms|s|sec|m|min|h|d)")
_CHOICE = re.compile(r"\^\(([\w|-]+)\)\$")
_MEMBER = re.compile(r"<[\w.]+: ('[^']*')>")


def message(error: Mapping[str, Any]) -> str:
    """The message for one entry of pydantic's `ValidationError.errors()`; with `input` in it, with a hint for common slips."""
    found = _MESSAGES.get(str(error.get("type")))
    if isinstance(found, str):
        return found + _hint(found, error.get("input"))
    if found is not None:
        try:
            return found(error.get("ctx", {}))
        except (KeyError, ValueError, TypeError):
            pass  # an error raised by hand, without the usual context
    return plain(str(error["msg"]))


def _hint(said: str, given: object) -> str:
    """What a person meant who wrote this. A value is repeated only where it is one of a few words."""
    if said == _FLAG and isinstance(given, str) and given.lower() in _YES_OR_NO:
        return f" (`{given}` is a string here)"
    if said == _WHOLE and isinstance(given, str) and _DURATION.fullmatch(given):
        return "; times are in seconds, such as 3600"
    if said == _LIST and isinstance(given, str):
        return ", also of one entry: write it in square brackets"
    if said == _TEXT and isinstance(given, Mapping) and len(given) == 1 and set(given) <= _READERS:
        return f"; write {next(iter(given))}=<name> in one word"
    return ""


def plain(text: str) -> str:
    """Shorten a message of pydantic."""
    text = _MEMBER.sub(r"\1", text.removeprefix("Value error, "))
    return text.replace("Input should be ", "must be ").split(", unable to parse", 1)[0]


def _choices(expected: object) -> str:
    return _MEMBER.sub(r"\1", str(expected))


def _pattern(pattern: str) -> str:
    if pattern in _PATTERNS:
        return _PATTERNS[pattern]
    choice = _CHOICE.fullmatch(pattern)
    return f"must be one of {', '.join(choice[1].split('|'))}" if choice else f"must match {pattern}"
