"""One client a network namespace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from warren_vpn.host.network_lock import hold_network

_TRY = """
import sys
from pathlib import Path
from warren_vpn.host.network_lock import hold_network
with hold_network(Path(sys.argv[1])):
    print("held")
"""


def attempt(path: Path, *before: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*before, sys.executable, "-c", _TRY, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_another_process_of_the_namespace_is_refused_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold_network(path):
        assert "ClientRunningError" in attempt(path)
    assert attempt(path) == "held\n"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.root
def test_each_namespace_has_a_client_of_its_own(tmp_path: Path) -> None:
    with hold_network(tmp_path / "lock"):
        assert attempt(tmp_path / "lock", "unshare", "-n") == "held\n"


def test_a_host_whose_file_cannot_be_made_goes_without(tmp_path: Path) -> None:
    with hold_network(tmp_path / "none" / "lock"), hold_network(tmp_path / "none" / "lock"):
        pass
