"""Policies from files: YAML or JSON, several documents in a file, several files in a folder. Pure, but for reading them.

YAML is read as its version 1.2 says: only `true` and `false` are booleans, so that `fragmentation: yes` is the word, `010` is
ten, `1:30` is a word, and nothing is taken for a date. A key that stands twice is refused, and so is a merge key of YAML 1.1.
"""

import re
import sys
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from warren_cli.errors import CliError
from warren_cli.remote.field_names import similar
from warren_cli.remote.positions import line_of, owner_of
from warren_contracts.commands import StoredPolicy
from warren_contracts.policy import Policy
from warren_contracts.problems import InvalidField, invalid_input
from warren_contracts.validation_messages import UNKNOWN_FIELD

SUFFIXES = (".yaml", ".yml", ".json")
MAX_TEXT = 8_000_000  # bytes of one file: four times what the API server takes at once, comments and all
MAX_DEPTH = 64  # of lists and mappings in each other: a policy has six
MAX_NUMBER = 32  # characters: more than any field takes


class DocumentError(CliError):
    """Policies could not be read, or were refused: each finding names the file, the document in it and the field."""

    def __init__(self, *findings: str) -> None:
        super().__init__("\n".join(findings))


@dataclass(frozen=True)
class Source:
    """Where a policy came from."""

    file: str
    document: int  # counted from 1
    text: str = field(default="", repr=False, compare=False)
    content: Any = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.file}, document {self.document}"

    def finding(self, path: str, message: str) -> str:
        """One finding, with its line and the tunnel that it is in."""
        where = path.removeprefix("(root)").removesuffix("/")
        said = f"{self}: {where}: {message}" if where else f"{self}: {message}"
        line = line_of(self.text, self.document, where)
        place = ", ".join(
            part for part in (f"line {line}" if line and where else "", owner_of(self.content, where)) if part
        )
        return f"{said} ({place})" if place else said


@dataclass(frozen=True)
class Loaded:
    """A policy and where it came from."""

    source: Source
    policy: Policy


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # ten times faster where libyaml is there
    """The core schema of YAML 1.2.2 (10.3.2); no repeated keys, and keys are words."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _wrong("mapping keys must be plain strings", key_node)
            key = self.construct_object(key_node, deep=True)
            if key == "<<" and not key_node.style:
                raise _wrong("merge keys (<<) are of YAML 1.1: write the fields out", key_node)
            if key in seen:
                raise _wrong(f"duplicate key {key!r}", key_node)
            seen.add(key)
        built: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return built

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        if len(text) > MAX_NUMBER:
            raise _wrong(f"this number has {len(text):,} digits", node)
        base = _BASES.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)


def _wrong(problem: str, node: yaml.Node | yaml.Event) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, cast(yaml.Mark, node.start_mark))


_BASES = {"0o": 8, "0x": 16}
_TAG = "tag:yaml.org,2002:"
_CORE = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
)
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _CORE:
    _Loader.add_implicit_resolver(
        _TAG + _name, re.compile(rf"^(?:{_pattern})$"), ["" if it == "\0" else it for it in _first]
    )
_Loader.add_constructor(_TAG + "int", _Loader.construct_yaml_int)


def load(paths: Sequence[str]) -> list[Loaded]:
    """Every policy of these files, folders and standard input (`-`). Raises DocumentError with all that is wrong in them."""
    loaded: list[Loaded] = []
    findings: list[str] = []
    for name, text in _texts(paths):
        try:
            loaded += parse(name, text)
        except DocumentError as error:
            findings.append(str(error))
    seen: dict[str, Source] = {}
    for it in loaded:
        if it.policy.id in seen:
            findings.append(f"{it.source}: id: duplicate policy id {it.policy.id} (also in {seen[it.policy.id]})")
        seen.setdefault(it.policy.id, it.source)
    if findings:
        raise DocumentError(*findings)
    if not loaded:
        shown = ", ".join("standard input" if path == "-" else path for path in paths)
        raise DocumentError(f"{shown}: no policy was found")
    return loaded


def parse(name: str, text: str) -> list[Loaded]:
    """The policies of one text; empty documents are left out. Raises DocumentError."""
    if len(text.encode("utf-8", "replace")) > MAX_TEXT:
        raise DocumentError(f"{name}: more than {MAX_TEXT:,} bytes: apply fewer policies at once")
    try:
        _refuse_depth(text)
        documents = list(yaml.load_all(text, _Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise DocumentError(f"{name}: {where}{_explained(error, mark)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise DocumentError(f"{name}: a value contradicts the tag (!!) that is written before it") from None
    loaded: list[Loaded] = []
    findings: list[str] = []
    for number, document in enumerate(documents, start=1):
        if document is None:
            continue
        source = Source(name, number, text, document)
        try:
            loaded.append(Loaded(source, _policy(source, document)))
        except DocumentError as error:
            findings.append(str(error))
    if findings:
        raise DocumentError(*findings)
    return loaded


def _explained(error: yaml.YAMLError, mark: yaml.Mark | None) -> str:
    """What libyaml says, in the words of who wrote the file where its own do not help."""
    problem = str(getattr(error, "problem", None) or "invalid YAML")
    if "cannot start any token" in problem:
        return f"{problem}: indent with spaces, not tabs; %, @ and ` may not begin a value"
    if "tab character" in problem:
        return f"{problem}: indent with spaces"
    if "mapping values are not allowed" in problem and mark is not None:
        return f"{problem}: check the indentation of line {mark.line + 1}, or put the value in quotes"
    return problem


def _refuse_depth(text: str) -> None:
    """libyaml's reader goes down one frame of the C stack a level and ends the process; its events do not."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _wrong("nested too deeply", event)


def located(loaded: Sequence[Loaded], errors: Sequence[InvalidField]) -> list[str]:
    """The API server's errors at the places that were written: `policies/1/id` becomes file, document and field."""
    lines = []
    for error in errors:
        head, _, rest = error.field.partition("/")
        number, _, field = rest.partition("/")
        if head == "policies" and number.isdigit() and int(number) < len(loaded):
            lines.append(loaded[int(number)].source.finding(field, error.message))
        else:
            lines.append(f"{error.field}: {error.message}")
    return lines


def _policy(source: Source, document: Any) -> Policy:
    if isinstance(document, dict) and document.keys() == StoredPolicy.model_fields.keys():
        document = document["policy"]  # as `warren policy show --json` prints it
    if not isinstance(document, dict):
        raise DocumentError(f"{source}: a policy is a mapping with `id`, and `topology` or `tunnels`")
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        found = invalid_input(error.errors(include_url=False)).errors
        raise DocumentError(*(source.finding(it.field, _explained_field(it)) for it in found)) from None


def _explained_field(error: InvalidField) -> str:
    if error.message != UNKNOWN_FIELD:
        return error.message
    hint = similar(error.field)
    return f"{error.message}; {hint}" if hint else error.message


def _texts(paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path == "-":
            yield "standard input", _read_standard_input()
        elif Path(path).is_dir():
            files = sorted(_policy_files(Path(path)))
            if not files:
                raise DocumentError(f"{path}: no file ends in {', '.join(SUFFIXES)}")
            for file in files:
                yield str(file), _read(file)
        else:
            yield path, _read(Path(path))


def _policy_files(folder: Path) -> Iterator[Path]:
    """In the folder and all folders below it; hidden ones (`.git`, what an editor leaves) are not read."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _policy_files(entry)
        elif entry.suffix in SUFFIXES and entry.is_file():
            yield entry


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _decoded(str(path), file.read(MAX_TEXT + 1))
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror}") from None


def _read_standard_input() -> str:
    """As UTF-8, whatever the locale says: a pipe has no locale."""
    return _decoded("standard input", sys.stdin.buffer.read(MAX_TEXT + 1))


def _decoded(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"{name}: not valid UTF-8 (byte {error.start + 1:,})") from None
