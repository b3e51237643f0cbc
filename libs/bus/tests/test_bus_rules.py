"""Rules that no linter can see: no respond(), nothing heavy behind what an agent imports, no secret in a repr."""

import json
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
AGENT_SIDE = (
    "warren_bus.connection", "warren_bus.rpc", "warren_bus.feed", "warren_bus.publisher", "warren_bus.settings", "warren_bus.tracing",
    "warren_bus.logs", "warren_trust.signing", "warren_trust.keys",
)  # fmt: skip
HEAVY = (
    "warren_service",
    "faststream",
    "opentelemetry",
    "cryptography",
    "aiohttp",
    "asyncpg",
    "fastapi",
    "typer",
    "pyroute2",
)


def _calls_respond(text: str) -> bool:
    """Of a module that has to do with the bus: the IKE engine's sessions respond to requests of their own kind."""
    return re.search(r"\b(nats|faststream)\b", text) is not None and re.search(r"\.respond\s*\(", text) is not None


def test_nobody_calls_respond() -> None:
    """`Msg.respond()` copies the caller's headers into the reply (c11); a method is out of ruff's sight."""
    found = [
        str(path.relative_to(REPOSITORY))
        for folder in ("libs", "services", "cli", "bench")
        for path in (REPOSITORY / folder).rglob("*.py")
        if path != Path(__file__) and _calls_respond(path.read_text())
    ]
    assert found == []


def test_what_an_agent_imports_of_the_bus_is_small() -> None:
    imports = "; ".join(f"import {name}" for name in AGENT_SIDE)
    program = f"import sys, json; {imports}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(json.loads(output.stdout))
    assert "warren_bus.feed.shell" in loaded
    assert [name for name in HEAVY if name in loaded] == []
