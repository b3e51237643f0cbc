"""`python -m warren_tools.freeze FOLDER`: freeze the JSON Schema of every released model.

A change that breaks the frozen schema is refused: it needs a new model, subject or type (`...v2`) next to the old one.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from warren_tools.compatibility import breaks
from warren_tools.released import is_stated, released_models


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model without titles and descriptions, which may change at any time."""
    schema = _without_text(model.model_json_schema())
    assert isinstance(schema, dict)
    return schema


def frozen_text(model: type[BaseModel]) -> str:
    """The schema as its file stores it."""
    return json.dumps(schema_of(model), indent=1, sort_keys=True) + "\n"


def freeze(folder: Path) -> list[str]:
    """Write the schemas and return the incompatible changes; if there are any, nothing is written."""
    models = released_models()
    found = []
    for path in sorted(folder.glob("*.json")):
        model = models.get(path.stem)
        if model is None:
            found.append(f"{path.stem}: the model was removed")
            continue
        released = json.loads(path.read_text())
        found += [f"{path.stem}: {line}" for line in breaks(released, schema_of(model), stated=is_stated(model))]
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        for name, model in models.items():
            (folder / f"{name}.json").write_text(frozen_text(model))
    return found


def _without_text(value: Any, inside_properties: bool = False) -> Any:
    if isinstance(value, list):
        return [_without_text(item) for item in value]
    if not isinstance(value, dict):
        return value
    text = () if inside_properties else ("title", "description", "examples")
    return {key: _without_text(item, key in ("properties", "$defs")) for key, item in value.items() if key not in text}


if __name__ == "__main__":
    refused = freeze(Path(sys.argv[1] if len(sys.argv) > 1 else "tests/contract/schemas"))
    print("\n".join(refused), file=sys.stderr, end="\n" if refused else "")
    raise SystemExit(1 if refused else 0)
