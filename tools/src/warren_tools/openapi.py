"""`python -m warren_tools.openapi [FILE]`: write the OpenAPI document (docs/openapi.json)."""

import json
import sys
from pathlib import Path

from warren_api.app import build_app, openapi
from warren_testkit.api import FakeBus


def document() -> str:
    """The document as the file holds it."""
    return json.dumps(openapi(build_app(FakeBus())), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(document())
    else:
        sys.stdout.write(document())
