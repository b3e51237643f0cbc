"""The units of the VPN's server, its client's kill switch and the userspace daemon: accepted by systemd, with valid command lines, exposed
to little.
"""

import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from warren_vpn.client.commands import DEFAULT_STATE
from warren_vpn.commands import DEFAULT_SETTINGS, app

FOLDER = Path(__file__).parents[3] / "deploy/systemd"
SERVER, DAEMON = FOLDER / "warren-vpn.service", FOLDER / "warren-userspace.service"
SWITCH = FOLDER / "warren-vpn-kill-switch.service"
LIMITS = {SERVER: "40", DAEMON: "40", SWITCH: "20"}
"""Tenths; the first two are open to the network, and change its settings."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def service(path: Path) -> dict[str, str]:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive
    parser.read(path)
    return dict(parser["Service"])


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=120, check=False)


@needs_systemd
@pytest.mark.parametrize("path", [*LIMITS], ids=lambda path: path.stem)
def test_systemd_finds_no_fault(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace(service(path)["ExecStart"].split()[0], sys.executable))
    verdict = analyze("verify", "--man=no", copy)
    assert (verdict.returncode, verdict.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("path", [*LIMITS], ids=lambda path: path.stem)
def test_the_service_is_exposed_to_little(path: Path) -> None:
    verdict = analyze("security", "--offline=true", f"--threshold={LIMITS[path]}", path)
    assert verdict.returncode == 0, verdict.stdout


def test_the_server_understands_its_command_line() -> None:
    command = shlex.split(service(SERVER)["ExecStart"])
    assert command[:2] == ["/opt/warren/bin/warren", "vpn"]
    assert str(DEFAULT_SETTINGS) == command[command.index("--config") + 1]
    assert f"/var/lib/{service(SERVER)['StateDirectory']}" == str(DEFAULT_SETTINGS.parent)
    assert CliRunner().invoke(app, [*command[2:], "--help"]).exit_code == 0


def test_the_kill_switch_is_loaded_before_the_network_from_the_clients_folder() -> None:
    command = shlex.split(service(SWITCH)["ExecStart"])
    assert command[:3] == ["/opt/warren/bin/warren", "vpn", "load-kill-switch"]
    assert command[command.index("--state") + 1] == str(DEFAULT_STATE)
    assert f"/var/lib/{service(SWITCH)['StateDirectory']}" == str(DEFAULT_STATE)
    assert CliRunner().invoke(app, [*command[2:], "--help"]).exit_code == 0
    text = SWITCH.read_text()
    assert "\nBefore=network-pre.target" in text
    assert "\nAfter=local-fs.target nftables.service" in text  # whose configuration begins with `flush ruleset`


def test_the_daemon_understands_its_command_line() -> None:
    command = shlex.split(service(DAEMON)["ExecStart"])[1:]
    done = subprocess.run(
        [sys.executable, *command, "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0
    assert "--socket" in done.stdout


def test_the_users_of_both_may_do_what_they_need() -> None:
    assert service(SERVER)["AmbientCapabilities"] == "CAP_NET_ADMIN CAP_NET_BIND_SERVICE"
    assert "DeviceAllow" in service(SERVER)
    assert "PrivateDevices" not in service(SERVER)
    assert "ProtectKernelTunables" not in service(SERVER)
    assert (FOLDER / "warren-vpn.conf").read_text().splitlines()[-1].split()[:2] == ["u", "warren-vpn"]
