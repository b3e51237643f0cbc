"""No process of the stack imports what only a terminal needs."""

import subprocess
import sys

import pytest

from warren_stack.services import SERVICES

COMMANDS = ("warren_stack.streams", "warren_registry.bootstrap_token", "warren_policy.verify_audit")


@pytest.mark.slow  # each starts a process, which ends as it has no settings
@pytest.mark.parametrize("module", sorted({*COMMANDS, *(service.module for service in SERVICES)}))
def test_rich_is_not_imported_by(module: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"WARREN_LOG_FORMAT": "json"})
    assert done.returncode != 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "structlog" in imported
    assert not {name for name in imported if name.startswith(("rich.", "pygments"))}
