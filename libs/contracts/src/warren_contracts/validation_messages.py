"""What is wrong with a field, in the words of whoever wrote it: what to write instead, and nothing of Python."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from warren_contracts.names import NAME_PATTERN, PUBLIC_KEY_PATTERN, TUNNEL_NAME_PATTERN
from warren_contracts.subjects import READER_PATTERN

TOO_SHORT = "give at least one entry"
TOPOLOGIES = ("hub-spoke", "mesh", "site-to-site")

Context = Mapping[str, Any]

_WHOLE = "write a whole number, without quotes"
_FLAG = "write true or false, without quotes"
_TEXT = "write text; in quotes where it looks like a number or a boolean"
_LIST = "write a list"
_MAPPING = "write a mapping of fields"
_KIND = f"`kind` is one of {', '.join(TOPOLOGIES)}"

_WORDS: dict[str, str | Callable[[Context], str]] = {
    "extra_forbidden": "there is no such field",
    "missing": "this field is required",
    "json_invalid": "this is not JSON",
    "too_short": TOO_SHORT,
    "too_long": lambda context: f"give at most {context['max_length']:,} entries",
    "union_tag_invalid": _KIND,
    "union_tag_not_found": f"`kind` is required: one of {', '.join(TOPOLOGIES)}",
    "string_too_long": lambda context: f"write at most {context['max_length']:,} characters",
    "string_too_short": lambda context: f"write at least {context['min_length']:,} characters",
    "greater_than_equal": lambda context: f"write a number of {context['ge']:,} or more",
    "less_than_equal": lambda context: f"write a number of {context['le']:,} or less",
    "greater_than": lambda context: f"write a number above {context['gt']:,}",
    "less_than": lambda context: f"write a number below {context['lt']:,}",
    "literal_error": lambda context: f"write {_choices(context['expected'])}",
    "enum": lambda context: f"write {_choices(context['expected'])}",
    "string_pattern_mismatch": lambda context: _pattern(str(context["pattern"])),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size", "finite_number"), _WHOLE),
    **dict.fromkeys(("bool_type", "bool_parsing"), _FLAG),
    **dict.fromkeys(("string_type", "string_sub_type", "string_unicode"), _TEXT),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), _LIST),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"), _MAPPING),
}
_PATTERNS = {
    READER_PATTERN: "write `all`, `tag=<tag>` or `peer=<id>`, in letters a-z, digits, _ and -",
    NAME_PATTERN: "write 1 to 63 of a-z, 0-9, _ and -",
    TUNNEL_NAME_PATTERN: "write the name of a tunnel: 1 to 63 of a-z, 0-9, _ and -, or two such joined by +",
    PUBLIC_KEY_PATTERN: "write a raw Ed25519 public key: 32 bytes in base64, 44 characters",
    r"^[a-z0-9-]{1,63}$": "write 1 to 63 of a-z, 0-9 and -",
    r"^[A-Za-z0-9@:._=, /*+-]{1,255}$": "write an identity of 1 to 255 letters, digits and @ : . _ = , / * + - and spaces",
}
_CHOICE = re.compile(r"\^\(([\w|-]+)\)\$")
_MEMBER = re.compile(r"<[\w.]+: ('[^']*')>")


def message(error: Mapping[str, Any]) -> str:
    """The words for one entry of pydantic's `ValidationError.errors()`."""
    words = _WORDS.get(str(error.get("type")))
    if isinstance(words, str):
        return words
    if words is not None:
        try:
            return words(error.get("ctx", {}))
        except (KeyError, ValueError, TypeError):
            pass  # an error that somebody made by hand
    return plain(str(error["msg"]))


def plain(said: str) -> str:
    """A message of pydantic's own without its manners."""
    said = _MEMBER.sub(r"\1", said.removeprefix("Value error, "))
    return said.replace("Input should be ", "it must be ").split(", unable to parse", 1)[0]


def _choices(expected: object) -> str:
    return _MEMBER.sub(r"\1", str(expected))


def _pattern(pattern: str) -> str:
    if pattern in _PATTERNS:
        return _PATTERNS[pattern]
    choice = _CHOICE.fullmatch(pattern)
    return f"write one of {', '.join(choice[1].split('|'))}" if choice else f"this must match {pattern}"
