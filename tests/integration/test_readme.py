"""The README's "Run it yourself", line by line as it stands there, on a server and two gateways of the lab."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from ipaddress import ip_interface
from pathlib import Path

import pytest

from warren_lab.lab import Lab
from warren_lab.namespace import Namespace
from warren_lab.ping import ping_command
from warren_lab.process import stop_process, wait_until
from warren_stack.demo.requirements import missing_packages

REPOSITORY = Path(__file__).parents[2]
LIMIT_SECONDS = 120.0
FOREGROUND = ("warren up", "warren agent run", "warren events --follow")
"""Commands that stay until Ctrl-C."""

pytestmark = [
    pytest.mark.root,
    pytest.mark.interop,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.skipif(bool(missing_packages("strongswan")), reason="strongSwan is not installed"),
]


def sections() -> dict[str, list[str]]:
    """The commands of the block, by the words of the comment above them."""
    text = (REPOSITORY / "README.md").read_text()
    block = re.search(r"^## Run it yourself\n.*?^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    found: dict[str, list[str]] = {}
    for line in filter(None, block[1].splitlines()):
        if line.startswith("# "):
            found[line.removeprefix("# ")] = commands = []
        else:
            commands.append(line)
    return found


class Terminal:
    """One shell on one machine of the lab; `folders` are shown at the paths where a machine of its own would have them."""

    def __init__(self, namespace: Namespace, home: Path, folders: Mapping[str, Path], exits: ExitStack) -> None:
        self._namespace, self._home, self._folders, self._exits = namespace, home, folders, exits
        self._exports: list[str] = []

    def type(self, line: str) -> subprocess.Popen[bytes] | None:
        """Run a line to its end; one that stays is left running, and returned."""
        if line.startswith("export "):
            self._exports.append(line)
            return None
        if line.startswith(FOREGROUND):
            return self._stay(line)
        if line.startswith("warren enrol"):  # a control plane on a busy machine may answer too late
            wait_until(lambda: self._run(line).returncode == 0, line, LIMIT_SECONDS)
            return None
        self.said(line)
        return None

    def said(self, line: str) -> str:
        """What a line prints."""
        done = self._run(line)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def _run(self, line: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self._argv(line), env=self._environment(), cwd=self._home, capture_output=True, text=True,
            timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            print(f"{line}: {done.stdout}{done.stderr}")  # for the report of a test that failed
        return done

    def _stay(self, line: str) -> subprocess.Popen[bytes]:
        log = self._exits.enter_context((self._home / f"{len(list(self._home.iterdir()))}.log").open("wb"))
        process = self._namespace.spawn(
            "env", f"--chdir={self._home}", *self._inside(line), env=self._environment(), stdout=log, stderr=log
        )
        self._exits.callback(stop_process, process, limit_seconds=LIMIT_SECONDS)
        return process

    def _argv(self, line: str) -> list[str]:
        return self._namespace.argv(self._inside(line))

    def _inside(self, line: str) -> list[str]:
        shown = [f"mount --bind {shlex.quote(str(own))} {path}" for path, own in self._folders.items()]
        script = "\n".join(["set -e", *shown, *self._exports, f"exec {line}"])
        return ["unshare", "--mount", "--propagation", "private", "bash", "-c", script]

    @staticmethod
    def _environment() -> dict[str, str]:
        adjacent = str(Path(sys.executable).parent)
        return {"PATH": f"{adjacent}:{os.environ['PATH']}", "LANG": "C.UTF-8", "HOME": "/nonexistent"}


def test_the_readme_ends_in_a_tunnel_that_carries_packets(lab: Lab, tmp_path: Path) -> None:
    steps = sections()
    server, hub, branch = (lab.namespace(name) for name in ("server", "hub", "branch"))
    # The addresses of the README: the server's on its loopback, one link from it to each gateway, one between the two.
    server.add_address("lo", ip_interface("192.0.2.10/32"))
    for number, gateway in enumerate((hub, branch), start=1):
        lab.link(
            server, f"gw{number}", f"203.0.113.{4 * number + 1}/30", gateway, "mgmt", f"203.0.113.{4 * number + 2}/30"
        )
        gateway.run("ip", "route", "add", "192.0.2.10/32", "via", f"203.0.113.{4 * number + 1}")
    lab.link(hub, "wan", "198.51.100.1/24", branch, "wan", "198.51.100.2/24")
    hub.add_address("lo", ip_interface("10.0.0.1/24"))
    branch.add_address("lo", ip_interface("10.1.0.1/24"))
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    with ExitStack() as exits:
        folders: dict[str, dict[str, Path]] = {"server": {}}
        for name, gateway in (("hub", hub), ("branch", branch)):
            charon = lab.charon(gateway)
            charon.start()
            state = tmp_path / f"{name}-lib"
            state.mkdir()
            folders[name] = {"/run": charon.run_folder, "/var/lib": state}
        where = {"server": server, "hub": hub, "branch": branch}
        desk = Terminal(server, tmp_path, {}, exits)
        for title, commands in steps.items():
            machine = next(name for name in where if title.startswith(f"on the {name}"))
            terminal = desk if machine == "server" else Terminal(where[machine], tmp_path, folders[machine], exits)
            if title == "on the server again":
                wait_until(lambda: _online(desk) == ["branch-1", "hub"], "both agents are online", LIMIT_SECONDS)
            for command in commands:
                process = terminal.type(command)
                if command.startswith("warren up"):
                    assert process is not None
                    wait_until(
                        lambda: "Ctrl-C stops everything" in _logs(tmp_path), "the stack is ready", LIMIT_SECONDS, process.pid
                    )  # fmt: skip
        wait_until(lambda: "branch-1+hub  up" in desk.said("warren tunnels"), "the tunnel is up", LIMIT_SECONDS)
        branch.run(*ping_command("10.0.0.1", "10.1.0.1"))
        # It is followed from the moment on at which it is connected: something must happen until one thing was seen.
        wait_until(lambda: _changed(desk) and "policy.changed" in _logs(tmp_path), "an event is seen", LIMIT_SECONDS)


def _online(desk: Terminal) -> list[str]:
    peers = json.loads(desk.said("warren peers --json"))
    return sorted(it["peer"] for it in peers if it["presence"] == "online" and it["record"]["keys"])


def _changed(desk: Terminal) -> bool:
    desk.said("warren policy delete branches --yes")
    return "created" in desk.said("warren policy apply examples/hub-spoke.yaml")


def _logs(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in folder.glob("*.log"))
