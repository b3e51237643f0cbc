"""Which fields a policy has at a place: what an unknown one may have been meant for. Pure."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from warren_contracts.policy import Policy

Schema = Mapping[str, Any]


def similar(field: str) -> str:
    """`did you mean priority?`, or the fields that there are where nothing is similar; empty for an unknown place."""
    *path, name = field.split("/")
    known = sorted({name for schema in _walk(path) for name in schema.get("properties", {})})
    if close := get_close_matches(name.lower(), known, 1):
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(known)}" if known else ""


def _walk(path: list[str]) -> list[Schema]:
    """The schemas that a place may have: a union has several."""
    places = list(_alternatives(_schema()))
    for part in path:
        places = [found for place in places for below in _below(place, part) for found in _alternatives(below)]
    return places


def _below(schema: Schema, part: str) -> Iterator[Schema]:
    if part in schema.get("properties", {}):
        yield schema["properties"][part]
    if part.isdigit():
        if "items" in schema:
            yield schema["items"]
        yield from schema.get("prefixItems", ())[int(part) : int(part) + 1]


def _alternatives(schema: Schema) -> Iterator[Schema]:
    if "$ref" in schema:
        schema = _schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    yield schema
    for union in ("anyOf", "oneOf"):
        for member in schema.get(union, ()):
            yield from _alternatives(member)


@cache
def _schema() -> Schema:
    schema = Policy.model_json_schema()
    if "$ref" in schema:
        return {**schema["$defs"][schema["$ref"].rpartition("/")[2]], "$defs": schema["$defs"]}
    return schema
