"""`warren demo` as a newcomer runs it: with root and without."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from warren_lab.process import wait_until
from warren_lab.runtime import make_runtime_folder
from warren_stack.demo.requirements import missing_packages
from warren_stack.run_as import NOBODY, run_as

WARREN = str(Path(sys.executable).with_name("warren"))
REPOSITORY = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.root,
    pytest.mark.interop,
    pytest.mark.usefixtures("namespaces"),
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing_packages("userspace")), reason="iproute2 or util-linux is not installed"),
]


def run_demo(command: list[str], home: Path) -> dict[str, Any]:
    links = socket.if_nameindex()
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,  # half a minute on idle cores
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not [name for _, name in socket.if_nameindex() if (_, name) not in links and name.startswith("wd")]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def check(report: dict[str, Any]) -> None:
    assert report["ok"] is True
    assert report["leftovers"] == []
    assert [tunnel["state"] for tunnel in report["tunnels"]] == ["up", "up"]
    assert all(tunnel["spi_in"] != tunnel["spi_out"] for tunnel in report["tunnels"])
    edit = report["edit"]
    assert edit["untouched_kept_spis"] is True
    assert edit["packets_lost"] == 0
    assert {edit["changed"], edit["untouched"]} == {tunnel["name"] for tunnel in report["tunnels"]}
    assert report["pings"]["sent"] - report["pings"]["received"] == edit["changed_packets_lost"]
    assert set(report["timings_ms"]) == {"stored", "delivered", "applied", "first_packet"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_demo_leaves_nothing_when_it_is(number: signal.Signals, tmp_path: Path) -> None:
    temporary = make_runtime_folder("wt-")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "TMPDIR": str(temporary)}
    demo = subprocess.Popen(
        [WARREN, "demo", "--json"], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert demo.stdout is not None
    assert demo.stderr is not None
    try:
        with demo.stdout, demo.stderr:
            assert any(b"the stack is ready" in line for line in demo.stderr)
            family = psutil.Process(demo.pid).children(recursive=True)
            demo.send_signal(number)
            demo.wait(180)
            said = demo.stdout.read()
        assert len(family) > 7  # the sandbox, and the stack in it
        assert psutil.wait_procs(family, timeout=90)[1] == []
        wait_until(lambda: not any(temporary.iterdir()), "the temporary folder is empty", 60.0)
    finally:
        demo.kill()
        subprocess.run(["rm", "-rf", temporary], check=True)
    if number is signal.SIGINT:
        assert demo.returncode == 1
        report = json.loads(said)
        assert (report["ok"], report["error"], report["leftovers"]) == (False, "it was stopped", [])


@pytest.mark.promises  # make test has the two other forms: on strongSwan as root, and without root
def test_demo_holds(tmp_path: Path) -> None:
    check(run_demo([WARREN, "demo", "--json"], tmp_path))


@pytest.mark.skipif(bool(missing_packages("strongswan")), reason="strongSwan is not installed")
def test_demo_on_strongswan_holds(tmp_path: Path) -> None:
    check(run_demo([WARREN, "demo", "--json", "--driver", "strongswan"], tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="drops root to prove the form without it")
def test_demo_holds_without_root(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    needed = [Path(sys.base_prefix), Path(sys.prefix), REPOSITORY]
    check(run_demo(run_as(NOBODY, [WARREN, "demo", "--json"], needed), tmp_path))
