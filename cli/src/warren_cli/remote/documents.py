"""Policies from files: YAML or JSON, several documents in a file, several files in a folder. Pure, but for reading them.

YAML is read as its version 1.2 says: only `true` and `false` are booleans, so that `fragmentation: yes` is the word, and
nothing is taken for a date. A key that stands twice is refused.
"""

import re
import sys
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from warren_cli.errors import CliError
from warren_contracts.policy import Policy
from warren_contracts.problems import InvalidField, invalid_input

SUFFIXES = (".yaml", ".yml", ".json")


class DocumentError(CliError):
    """A policy could not be read: the file, the document in it and the field are named."""


@dataclass(frozen=True)
class Source:
    """Where a policy came from."""

    file: str
    document: int  # counted from 1

    def __str__(self) -> str:
        return f"{self.file}, document {self.document}"


@dataclass(frozen=True)
class Loaded:
    """A policy and where it came from."""

    source: Source
    policy: Policy


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of booleans, no dates, no repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_DROPPED = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _DROPPED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def load(paths: Sequence[str]) -> list[Loaded]:
    """Every policy of these files, folders and standard input (`-`). Raises DocumentError."""
    loaded = [policy for name, text in _texts(paths) for policy in parse(name, text)]
    if not loaded:
        raise DocumentError(f"{', '.join(paths)}: no policy was found")
    seen: dict[str, Source] = {}
    for it in loaded:
        if it.policy.id in seen:
            raise DocumentError(f"{it.source}: id: {it.policy.id} stands in {seen[it.policy.id]} too")
        seen[it.policy.id] = it.source
    return loaded


def parse(name: str, text: str) -> list[Loaded]:
    """The policies of one text; empty documents are left out. Raises DocumentError."""
    try:
        documents = list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise DocumentError(f"{name}: {where}{getattr(error, 'problem', None) or 'this is not YAML'}") from None
    except RecursionError:
        raise DocumentError(f"{name}: nested too deeply") from None
    return [
        Loaded(source, _policy(source, document))
        for number, document in enumerate(documents, start=1)
        if document is not None
        for source in (Source(name, number),)
    ]


def located(loaded: Sequence[Loaded], errors: Sequence[InvalidField]) -> str:
    """The gateway's errors at the places that were written: `policies/1/id` becomes file, document and field."""
    lines = []
    for error in errors:
        head, _, rest = error.field.partition("/")
        number, _, field = rest.partition("/")
        if head == "policies" and number.isdigit() and int(number) < len(loaded):
            lines.append(f"{loaded[int(number)].source}: {field}: {error.message}".replace(": : ", ": "))
        else:
            lines.append(f"{error.field}: {error.message}")
    return _some(lines)


def _policy(source: Source, document: Any) -> Policy:
    if not isinstance(document, dict):
        raise DocumentError(f"{source}: a policy is a mapping with `id`, and `topology` or `tunnels`")
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        found = invalid_input(error.errors(include_url=False, include_input=False)).errors
        raise DocumentError(_some([f"{source}: {it.field}: {it.message}" for it in found])) from None


def _some(lines: Sequence[str]) -> str:
    return "; ".join(lines[:3]) + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")


def _texts(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path == "-":
            yield "standard input", _read_standard_input()
        elif Path(path).is_dir():
            files = sorted(it for it in Path(path).iterdir() if it.suffix in SUFFIXES and it.is_file())
            if not files:
                raise DocumentError(f"{path}: there is no file that ends in {', '.join(SUFFIXES)}")
            for file in files:
                yield str(file), _read(file)
        else:
            yield path, _read(Path(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DocumentError(f"{path}: this is no UTF-8 text") from None


def _read_standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise DocumentError("standard input: this is no UTF-8 text") from None
