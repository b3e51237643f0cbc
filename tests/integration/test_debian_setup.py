"""deploy/debian/setup.sh: what it does around `apt-get install`, on a root and with package tools of this test's own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "deploy" / "debian" / "setup.sh"
STARTER = "strongswan-starter"
REAL = ("bash", "sh", "env", "grep", "mktemp", "mv", "rm", "chmod", "cat", "printf")

# Each writes down how it was called; apt-get also what a package that wants to start its daemon would be answered meanwhile.
TOOLS = {
    "id": "echo $UID_OF_TEST",
    "dpkg-query": 'grep -qx "${!#}" "$HOME/installed" && echo "ii "',
    "systemctl": 'echo "systemctl $*" >> "$HOME/calls"',
    "docker": "exit 0",
    "dockerd": "exit 0",
    "apt-get": """
[ "$1" = update ] && exit 0
"$SETUP_ROOT/usr/sbin/policy-rc.d" strongswan-starter start && status=0 || status=$?
echo "install with policy $status" >> "$HOME/calls"
case "$*" in *strongswan-charon*) echo strongswan-starter >> "$HOME/installed" ;; esac
exit ${APT_EXIT:-0}
""",
}
ALLOWS = "#!/bin/sh\n# of the administrator\nexit 0\n"
FORBIDS = "#!/bin/sh\n# of the administrator\nexit 101\n"


class Machine:
    """A root folder, what is installed there, and the package tools."""

    def __init__(self, folder: Path) -> None:
        self._home, self._tools = folder / "home", folder / "bin"
        self.root = folder / "root"
        self.policy = self.root / "usr" / "sbin" / "policy-rc.d"
        self.installed = self._home / "installed"
        self._calls = self._home / "calls"
        for made in (self._home, self._tools, self.policy.parent):
            made.mkdir(parents=True)
        for name in REAL:
            (self._tools / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name}"))
        for name, body in TOOLS.items():
            (self._tools / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (self._tools / name).chmod(0o755)
        for empty in (self.installed, self._calls):
            empty.touch()

    def set_up(self, *, user: int = 0, apt_exit: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self._tools), "HOME": str(self._home), "SETUP_ROOT": str(self.root),
            "UID_OF_TEST": str(user), "APT_EXIT": str(apt_exit),
        }  # fmt: skip
        return subprocess.run([SETUP], env=environment, capture_output=True, text=True, check=False, timeout=60)

    def give_policy(self, text: str) -> None:
        self.policy.write_text(text)
        self.policy.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines()

    def left(self) -> dict[str, str]:
        """Everything that is in the folder of the policy."""
        return {path.name: path.read_text() for path in self.policy.parent.iterdir()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_daemon_starts_while_packages_are_installed_and_no_policy_is_left(machine: Machine) -> None:
    done = machine.set_up()
    assert (done.returncode, machine.left()) == (0, {}), done.stderr
    assert machine.calls == ["install with policy 101", f"systemctl disable --quiet {STARTER}"]
    assert "no charon runs on this machine by itself" in done.stdout


def test_a_policy_that_was_there_is_set_aside_and_put_back(machine: Machine) -> None:
    machine.give_policy(ALLOWS)
    assert machine.set_up().returncode == 0
    assert machine.calls[0] == "install with policy 101"
    assert machine.left() == {"policy-rc.d": ALLOWS}
    assert os.access(machine.policy, os.X_OK)


def test_a_policy_that_forbids_starts_stays(machine: Machine) -> None:
    machine.give_policy(FORBIDS)
    before = machine.policy.stat().st_ino
    assert machine.set_up().returncode == 0
    assert machine.calls[0] == "install with policy 101"
    assert machine.left() == {"policy-rc.d": FORBIDS}
    assert machine.policy.stat().st_ino == before


@pytest.mark.parametrize("policy", [None, ALLOWS])
def test_an_installation_that_fails_leaves_the_policy_as_it_was(machine: Machine, policy: str | None) -> None:
    if policy:
        machine.give_policy(policy)
    assert machine.set_up(apt_exit=100).returncode == 100
    assert machine.left() == ({"policy-rc.d": policy} if policy else {})
    assert machine.calls == ["install with policy 101"]


def test_a_strongswan_that_was_there_is_not_touched(machine: Machine) -> None:
    machine.installed.write_text(f"{STARTER}\nstrongswan-charon\n")
    done = machine.set_up()
    assert done.returncode == 0
    assert machine.calls == ["install with policy 101"]  # nothing is stopped, disabled or started
    assert "strongswan-charon" not in done.stdout.split()


def test_a_user_other_than_root_gets_one_command_and_nothing_is_done(machine: Machine) -> None:
    done = machine.set_up(user=1000)
    assert done.returncode == 1
    assert "apt-get install -y --no-install-recommends" in done.stderr
    assert (machine.calls, machine.left()) == ([], {})
