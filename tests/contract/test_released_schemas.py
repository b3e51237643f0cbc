"""The current models stay compatible with the frozen schemas of v1."""

import json
from pathlib import Path

import pytest

from warren_tools.compatibility import breaks
from warren_tools.freeze import freeze, frozen_text, schema_of
from warren_tools.released import is_stated, released_models

SCHEMAS = Path(__file__).parent / "schemas"
RELEASED = sorted(path.stem for path in SCHEMAS.glob("*.json"))


@pytest.mark.parametrize("name", RELEASED)
def test_no_change_breaks_a_released_reader(name: str) -> None:
    models = released_models()
    assert name in models, f"{name} was released and has been removed"
    frozen = json.loads((SCHEMAS / f"{name}.json").read_text())
    found = breaks(frozen, schema_of(models[name]), stated=is_stated(models[name]))
    assert not found, "\n".join(("this breaks released readers; release a new model next to the old one:", *found))


@pytest.mark.parametrize("name", released_models())
def test_every_released_model_is_frozen_as_it_is(name: str) -> None:
    path = SCHEMAS / f"{name}.json"
    assert path.exists(), f"{name} is not frozen: run `make docs`"
    assert path.read_text() == frozen_text(released_models()[name]), f"{name} has changed: run `make docs`"


@pytest.mark.slow
def test_freezing_refuses_what_breaks_and_writes_nothing(tmp_path: Path) -> None:
    assert freeze(tmp_path) == []
    path = tmp_path / "Presence.json"
    schema = json.loads(path.read_text())
    schema["properties"]["mood"] = {"type": "string"}
    path.write_text(json.dumps(schema))
    (tmp_path / "Empty.json").unlink()
    assert freeze(tmp_path) == ["Presence: mood: the field was removed (fields are never removed or renamed)"]
    assert not (tmp_path / "Empty.json").exists()
