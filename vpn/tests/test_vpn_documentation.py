"""docs/vpn.md: what it names exists, and every setting of the server is in it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from warren_vpn.server.settings import ServerSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/vpn.md").read_text()
UNLISTED = {"key", "certificate", "certificate_key", "client_ca", "control", "user"}
"""Files of the folder, which the text has elsewhere, and users."""


def test_tests_that_it_names_exist() -> None:
    names = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(names) > 5
    sources = "".join(
        path.read_text()
        for folder in ("tests/integration/vpn", "vpn/tests")
        for path in (ROOT / folder).glob("test_*.py")
    )
    assert [name for name in sorted(names) if f"def {name}(" not in sources] == []


def test_files_that_it_names_exist() -> None:
    named = set(re.findall(r"(?:`|# cp )((?:libs|vpn|tests|deploy)/[\w./-]+)", TEXT))
    assert len(named) > 5
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from settings(field.annotation, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in UNLISTED:
            yield f"{prefix}{name}"


@pytest.mark.parametrize("name", list(settings(ServerSettings)))
def test_each_setting_is_in_the_table(name: str) -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    assert any(f"`{name}`" in row.split("|")[1] for row in rows)
