from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from warren_cli.main import app
from warren_contracts.commands import Role
from warren_testkit.api import TOKENS
from warren_testkit.api.live import LiveApi
from warren_testkit.verbs import Run


@pytest.fixture
def api() -> Iterator[LiveApi]:
    # The gateway shares this process: its log must not get between the lines of the command.
    with capture_logs(), LiveApi() as live:
        yield live


@pytest.fixture
def run(api: LiveApi, tmp_path: Path) -> Run:
    """Runs an operator's verb as administrator; a refusal is one line, or as many as there are findings."""
    token = tmp_path / "token"
    token.write_text(TOKENS[Role.ADMIN] + "\n")
    token.chmod(0o600)
    environment = {"WARREN_URL": api.url, "WARREN_TOKEN_FILE": str(token)}

    def runner(*arguments: str, code: int = 0, stdin: str | None = None, lines: int = 1, **env: str) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin, env=environment | env)
        assert result.exit_code == code, (result.output, result.exception)
        assert code == 0 or len(result.stderr.splitlines()) == lines
        return result

    return runner
