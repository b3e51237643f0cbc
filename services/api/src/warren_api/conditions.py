"""Conditional requests for a policy: its entity tag is its version (RFC 9110, 8.8.3 and 13.1). Pure."""

import re
from dataclasses import dataclass

from warren_contracts.problems import InvalidField, InvalidInputError

MAX_TAGS = 32
"""Of one header field: a client names the representations that it holds, which are few."""

_TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"')
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")


@dataclass(frozen=True, slots=True)
class EntityTag:
    """An entity tag; only a strong one stands for the same bytes."""

    opaque: str
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """The value of If-Match or If-None-Match: `*` (any), or entity tags."""

    any: bool
    tags: tuple[EntityTag, ...] = ()

    @property
    def only_version(self) -> int | None:
        """The one version that can match strongly; None: there are several, or any."""
        if self.any or len(self.tags) != 1 or self.tags[0].weak or not _VERSION.fullmatch(self.tags[0].opaque):
            return None
        return int(self.tags[0].opaque)

    def matches_strongly(self, version: int | None) -> bool:
        """Whether a stored version (None: there is no policy) is one of these, by the comparison of If-Match."""
        return version is not None and (self.any or EntityTag(str(version)) in self.tags)

    def matches_weakly(self, version: int | None) -> bool:
        """The same by the comparison of If-None-Match: a weak tag is as good."""
        return version is not None and (self.any or any(tag.opaque == str(version) for tag in self.tags))


def entity_tag(version: int) -> str:
    """The value of the field ETag."""
    return f'"{version}"'


def parse_condition(name: str, value: str | None) -> Condition | None:
    """The condition in a field; None: the request has no such field. Raises InvalidInputError, naming the field."""
    if value is None:
        return None
    text = value.strip(" \t")
    if text == "*":
        return Condition(any=True)
    tags: list[EntityTag] = []
    position = 0
    while match := _TAG.match(text, position):
        tags.append(EntityTag(match["opaque"], match["weak"] is not None))
        position = match.end()
        separator = _SEPARATOR.match(text, position)
        if separator is None:
            break
        position = separator.end()
    if not tags or position != len(text) or len(tags) > MAX_TAGS:
        message = f'must be `*`, or at most {MAX_TAGS} entity tags such as `"3"`, in double quotes'
        raise InvalidInputError(f"{name}: {message}", (InvalidField(field=name, message=message),))
    return Condition(False, tuple(tags))
