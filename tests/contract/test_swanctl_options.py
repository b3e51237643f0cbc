"""docs/swanctl-options.md names every option of swanctl.conf, and the defaults and ranges that a policy has."""

import gzip
import re
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from warren_contracts.policy import TunnelOptions

TEXT = (Path(__file__).parents[2] / "docs" / "swanctl-options.md").read_text()
MANUAL = Path("/usr/share/man/man5/swanctl.conf.5.gz")
"""Of Debian's package strongswan-swanctl 5.9.8."""
OPTION = re.compile(r"^\.BR (\S+)", re.MULTILINE)


SECTIONS = ("connections.", "secrets.", "pools.", "authorities.")


def model_of(level: str) -> type[BaseModel]:
    found: type[BaseModel] = TunnelOptions.model_fields[level].annotation  # type: ignore[assignment]  # a model
    return found


def sections() -> dict[str, str]:
    """The text below each heading."""
    parts = re.split(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def row_of(level: str, name: str) -> list[str]:
    section = next(text for title, text in sections().items() if title.startswith(f"Taken: `options.{level}`"))
    row = next(line for line in section.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def shown(value: Any) -> str:
    if isinstance(value, Enum):
        return f"`{value.value}`"
    return f"`{str(value).lower()}`" if isinstance(value, bool | str) else str(value)


@pytest.mark.parametrize("level", ["ike", "child"])
def test_every_option_of_a_policy_has_its_default_and_range(level: str) -> None:
    schema = model_of(level).model_json_schema()
    for name, field in model_of(level).model_fields.items():
        _, default, allowed, _ = row_of(level, name)
        if field.default is not None:  # otherwise it is derived
            assert default == shown(field.default), name
        kind = schema["properties"][name]
        kind = next((it for it in kind.get("anyOf", ()) if it.get("type") != "null"), kind)
        for bound in ("minimum", "maximum"):
            if bound in kind:
                assert f"{kind[bound]:,}" in allowed, name


@pytest.mark.skipif(not MANUAL.exists(), reason="strongSwan's manual page is not installed")
def test_every_option_of_the_manual_page_is_named() -> None:
    found = OPTION.findall(gzip.decompress(MANUAL.read_bytes()).decode())
    options = [option for option in found if option.startswith(SECTIONS)]
    assert len(options) > 120
    for option in options:
        section, _, name = option.replace("\\-", "-").partition(".")
        if section != "connections":
            assert f"| `{section}`" in TEXT, option
            parts = [part.removesuffix("<suffix>") for part in name.split(".")]
            word = parts[0] if section == "secrets" else parts[-1]
            assert f"`{word}`" in TEXT or word.startswith("<"), option
            continue
        *path, leaf = name.split(".")[1:]
        if path[:1] == ["children"]:
            path = []
        words = {leaf, ".".join((*path, leaf)), ".".join((*path[:1], leaf))}
        assert any(f"`{word}`" in TEXT for word in words), option
