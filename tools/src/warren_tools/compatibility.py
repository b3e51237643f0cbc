"""Compare a JSON Schema with its released version and list the incompatible changes.

*Documents* are exchanged between programs of any version, in both directions: a released reader must be able to read what
the current writer writes, and the current reader what older writers wrote. So a field is never removed, never changes its
type (wider or narrower: an old reader does not know a new member of an enumeration), and a new field is never required.
Readers ignore unknown fields, so fields may be added.

*Stated* models (commands) are written by clients of any version and read by current services: what was accepted must stay
accepted, so types may become wider; but no field may be removed, since an unknown field is refused.
"""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

# keyword: whether a larger value is the stricter one
_LIMITS = {
    "minimum": True, "exclusiveMinimum": True, "minLength": True, "minItems": True,
    "maximum": False, "exclusiveMaximum": False, "maxLength": False, "maxItems": False,
}  # fmt: skip
_DEPTH = 64  # of nested models; recursive models end at a pair that is already being compared


def breaks(released: Schema, current: Schema, *, stated: bool) -> tuple[str, ...]:
    """The incompatible changes, one line each with the field's path; empty if there are none."""
    return tuple(dict.fromkeys(_Comparison(released, current, stated).object("", released, current)))


class _Comparison:
    """One pair of schemas; each resolves `$ref` within itself."""

    def __init__(self, released: Schema, current: Schema, stated: bool) -> None:
        self._roots = (released, current)
        self._stated = stated
        self._in_progress: set[tuple[str, str]] = set()

    def object(self, path: str, old: Schema, new: Schema) -> list[str]:
        """Compare two objects with properties."""
        found = []
        before, now = old.get("properties", {}), new.get("properties", {})
        for name in before:
            where = f"{path}/{name}".lstrip("/")
            if name not in now:
                found.append(f"{where}: the field was removed (fields are never removed or renamed)")
            else:
                found += self.value(where, before[name], now[name])
        # A writer of documents writes every field that it knows; a client may omit optional ones.
        always_there = set(old.get("required", ())) if self._stated else set(before)
        for name in sorted(set(new.get("required", ())) - always_there):
            found.append(f"{path}/{name}: a new field is required (give it a default)".lstrip("/"))
        return found

    def value(self, path: str, old: Schema, new: Schema) -> list[str]:
        """Compare two values of any kind."""
        pair = (str(old.get("$ref", "")), str(new.get("$ref", "")))
        if all(pair):
            if pair in self._in_progress:
                return []
            self._in_progress.add(pair)
        try:
            old, new = self._resolved(old, 0), self._resolved(new, 1)
            if "properties" in old and "properties" in new:
                return self.object(path, old, new)
            if old.get("type") == new.get("type") == "array" and "items" in old and "items" in new:
                return self.value(f"{path}/0", old["items"], new["items"]) + self._limits(path, old, new)
            if not (_members(old) or _members(new)):
                return self._plain(path, old, new)
            return self._union(path, old, new)
        finally:
            if all(pair):
                self._in_progress.discard(pair)

    def _union(self, path: str, old: Schema, new: Schema) -> list[str]:
        befores, nows = _members(old) or [old], _members(new) or [new]
        found = [
            f"{path}: {_title(self._resolved(before, 0))} is no longer accepted, or not as before: {reason}"
            for before in befores
            if (reason := self._best(path, before, nows, old_first=True)) is not None
        ]
        if not self._stated:
            found += [
                f"{path}: {_title(self._resolved(now, 1))} is new and unknown to released readers"
                for now in nows
                if self._best(path, now, befores, old_first=False) is not None
            ]
        return found

    def _best(self, path: str, one: Schema, others: list[Schema], *, old_first: bool) -> str | None:
        """None if one of the others is compatible; else the first difference to the most similar one."""
        nearest: list[str] | None = None
        for other in others:
            found = self.value(path, one, other) if old_first else self.value(path, other, one)
            if not found:
                return None
            nearest = found if nearest is None or len(found) < len(nearest) else nearest
        return nearest[0] if nearest else "no alternative is left"

    def _plain(self, path: str, old: Schema, new: Schema) -> list[str]:
        found = self._types(path, old, new) + self._choices(path, old, new) + self._limits(path, old, new)
        for keyword in ("pattern", "format"):
            loosened = new.get(keyword) is None and self._stated
            if old.get(keyword) != new.get(keyword) and not loosened:
                found.append(f"{path}: {keyword} changed from {old.get(keyword)} to {new.get(keyword)}")
        for name in ("additionalProperties", "items"):
            before, now = old.get(name), new.get(name)
            if isinstance(before, Mapping) and isinstance(now, Mapping):
                found += self.value(f"{path}/*", before, now)
            elif isinstance(before, Mapping) and not self._stated:
                found.append(f"{path}/*: any value is accepted now, which released readers do not expect")
        befores, nows = old.get("prefixItems", []), new.get("prefixItems", [])
        for number, (before, now) in enumerate(zip(befores, nows, strict=False)):
            found += self.value(f"{path}/{number}", before, now)
        return found

    def _types(self, path: str, old: Schema, new: Schema) -> list[str]:
        before, now = old.get("type"), new.get("type")
        wider = self._stated and (now is None or (before, now) == ("integer", "number"))
        return [] if before == now or wider else [f"{path}: the type changed from {before} to {now}"]

    def _choices(self, path: str, old: Schema, new: Schema) -> list[str]:
        before, now = _choices(old), _choices(new)
        gone: list[str] = []
        added: list[str] = []
        if now is not None:
            gone = [f"other than {', '.join(sorted(map(str, now)))}"]
        if before is not None:
            gone = [] if now is None else sorted(map(str, before - now))
            added = ["any other"] if now is None else sorted(map(str, now - before))
        found = [f"{path}: the value {value} was removed" for value in gone]
        if not self._stated:
            found += [f"{path}: the value {value} is new and unknown to released readers" for value in added]
        return found

    def _limits(self, path: str, old: Schema, new: Schema) -> list[str]:
        found = []
        for keyword, larger_is_stricter in _LIMITS.items():
            before, now = old.get(keyword), new.get(keyword)
            if before == now:
                continue
            stricter = now is not None and (before is None or (now > before) == larger_is_stricter)
            if stricter or not self._stated:
                found.append(f"{path}: {keyword} changed from {before} to {now}")
        return found

    def _resolved(self, schema: Schema, side: int) -> Schema:
        for _ in range(_DEPTH):
            if "$ref" not in schema:
                return schema
            target: Any = self._roots[side]
            for part in str(schema["$ref"]).removeprefix("#/").split("/"):
                target = target[part]
            schema = target
        raise ValueError("circular $ref")


def _members(schema: Schema) -> list[Schema]:
    return list(schema.get("anyOf") or schema.get("oneOf") or [])


def _choices(schema: Schema) -> set[Any] | None:
    if "const" in schema:
        return {schema["const"]}
    return set(schema["enum"]) if "enum" in schema else None


def _title(schema: Schema) -> str:
    return str(schema.get("title") or schema.get("const") or schema.get("format") or schema.get("type") or "a value")
