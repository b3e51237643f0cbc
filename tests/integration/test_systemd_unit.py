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
from warren_guard.main import build_parser as build_guard_parser
from warren_guard.settings import check_settings

UNIT = Path(__file__).parents[2] / "deploy/systemd/warren-agent.service"
EXPOSURE_LIMIT = "20"  # tenths; systemd calls 1.8 "OK" and an ordinary service 9.6 "UNSAFE"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def service() -> dict[str, str]:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive
    parser.read(UNIT)
    return dict(parser["Service"])


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=120, check=False)


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


def test_the_agents_group_may_send_echoes_by_the_setting_that_ships() -> None:
    lines = UNIT.with_name("warren-agent.sysctl.conf").read_text().splitlines()
    (setting,) = [line for line in lines if not line.startswith("#")]
    key, _, value = setting.partition(" = ")
    first, last = map(int, value.split())
    assert (key, first, last >= 0) == (
        "net.ipv4.ping_group_range",
        0,
        True,
    )  # the unit names no other group than root's


GUARD = UNIT.with_name("warren-guard.service")


def unit(path: Path, section: str) -> dict[str, str]:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive
    parser.read(path)
    return dict(parser[section])


@needs_systemd
def test_systemd_finds_no_fault_in_the_guards_unit(tmp_path: Path) -> None:
    copy = tmp_path / GUARD.name
    command = unit(GUARD, "Service")["ExecStart"].split()[0]
    copy.write_text(GUARD.read_text().replace(command, str(Path(sys.executable).parent / "warren-guard")))
    verdict = analyze("verify", "--man=no", copy)
    assert (verdict.returncode, verdict.stderr) == (0, "")


@needs_systemd
def test_the_units_of_a_gateway_have_no_ordering_cycle(tmp_path: Path) -> None:
    """With what loads the host's own rules, where that is installed, and the targets of the network."""
    folder = Path(sys.executable).parent
    for path in (UNIT, GUARD):
        name = path.stem
        text = path.read_text().replace(f"/opt/warren/bin/{name}", str(folder / name))
        (tmp_path / path.name).write_text(text)
    others = [it for it in ("nftables.service", "networking.service") if (Path("/lib/systemd/system") / it).exists()]
    wanted: list[str | Path] = [
        tmp_path / UNIT.name,
        tmp_path / GUARD.name,
        *others,
        "network-pre.target",
        "network-online.target",
    ]
    verdict = analyze("verify", "--man=no", *wanted)
    assert "ordering cycle" not in verdict.stderr
    assert "warren" not in verdict.stderr, verdict.stderr


@needs_systemd
def test_the_guard_is_exposed_to_little() -> None:
    verdict = analyze("security", "--offline=true", f"--threshold={EXPOSURE_LIMIT}", GUARD)
    assert verdict.returncode == 0, verdict.stdout


def test_the_guards_table_is_loaded_before_the_network_and_after_the_hosts_own_rules() -> None:
    order = unit(GUARD, "Unit")
    assert "network-pre.target" in order["Before"].split()
    assert "network-pre.target" in order["Wants"].split()
    assert "nftables.service" in order["After"].split()
    assert unit(GUARD, "Service")["Type"] == "notify"  # the targets behind it wait until the table is loaded


def test_the_guard_understands_its_command_line_and_has_one_capability() -> None:
    service_of_guard = unit(GUARD, "Service")
    build_guard_parser().parse_args(shlex.split(service_of_guard["ExecStart"])[1:])
    settings = check_settings({}, {})
    assert str(settings.state) == f"/var/lib/{service_of_guard['StateDirectory']}"
    assert str(settings.socket.parent) == f"/run/{service_of_guard['RuntimeDirectory']}"
    assert service_of_guard["CapabilityBoundingSet"] == "CAP_NET_ADMIN"
    assert service_of_guard["RestrictAddressFamilies"] == "AF_UNIX AF_NETLINK"
