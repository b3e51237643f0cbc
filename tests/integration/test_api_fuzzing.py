"""`make test-api`: requests of every shape to every operation of docs/openapi.json, at a running `warren up`: none is answered with 5xx.

The streams `/api/events` and `/api/live` never end, so that they are left out.
"""

import subprocess
from pathlib import Path

import pytest

from warren_testkit.up import running_up

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / "build" / "schemathesis"
SECONDS = 60

pytestmark = pytest.mark.fuzzing


def test_no_request_is_answered_with_a_server_error(tmp_path: Path) -> None:
    with running_up(tmp_path) as up:
        token = Path(up.info["token_file"]).read_text().strip()
        options = (
            "--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--exclude-path", "/api/events",
            "--exclude-path", "/api/live", "--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off",
            "--request-timeout", "20", "--max-examples", "10", "--max-time", str(SECONDS), "--seed", "1", "--no-color",
        )  # fmt: skip
        done = subprocess.run(
            [
                SCHEMATHESIS / "bin" / "schemathesis", "run", ROOT / "docs" / "openapi.json", "--url", up.info["url"],
                "--tls-verify", up.info["ca_file"], "--header", f"Authorization: Bearer {token}", *options,
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=10 * SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "passed" in done.stdout
