"""The verbs of this package: each is there, and none is imported for the list of them."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from warren_cli.main import app
from warren_cli.verbs import VERBS, command_of

LISTED = "import sys; from warren_cli.main import app; app(['--help'], standalone_mode=False); print(*sys.modules, file=sys.stderr)"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_has_help_with_an_example(verb: str) -> None:
    shown = CliRunner().invoke(app, [verb, "--help"] if verb != "enrol" else ["agent", "--help"])
    assert shown.exit_code == 0
    assert shown.stdout.startswith("Usage: warren ")
    assert command_of(verb) is command_of(verb)


def test_the_list_of_verbs_imports_none_of_them() -> None:
    done = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, text=True, timeout=60, check=True)
    assert all(f"  {verb} " in done.stdout for verb in VERBS)
    imported = set(done.stderr.split())
    assert not imported & {
        "pydantic",
        "httpx",
        "rich",
        "yaml",
        "warren_contracts.commands",
        "warren_ikev2",
        "warren_lab",
    }
