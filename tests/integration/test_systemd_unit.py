"""The unit that ships: systemd accepts it, the agent accepts its command line, and it gives the agent next to nothing."""

import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from warren_agent.main import build_parser
from warren_agent.settings import DEFAULT_STATE

UNIT = Path(__file__).parents[2] / "deploy/systemd/warren-agent.service"
EXPOSURE_LIMIT = "20"  # tenths; systemd calls 1.8 "OK" and an ordinary service 9.6 "UNSAFE"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def service() -> dict[str, str]:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive
    parser.read(UNIT)
    return dict(parser["Service"])


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=30, check=False)


@needs_systemd
def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    installed = service()["ExecStart"].split()[0]
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(installed, str(Path(sys.executable).parent / "warren-agent")))
    verdict = analyze("verify", "--man=no", copy)
    assert (verdict.returncode, verdict.stderr) == (0, "")


@needs_systemd
def test_the_agent_is_exposed_to_little() -> None:
    verdict = analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", UNIT)
    assert verdict.returncode == 0, verdict.stdout


def test_the_agent_understands_its_command_line() -> None:
    options = build_parser().parse_args(shlex.split(service()["ExecStart"])[1:])
    assert options.config == "/etc/warren/agent.toml"
    assert f"/var/lib/{service()['StateDirectory']}" == DEFAULT_STATE
