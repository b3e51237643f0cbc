"""What a process with keys in its memory gives up."""

import resource
import subprocess
import sys

import pytest

_SHOW = """
import ctypes, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))
{}
print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""
_DAEMON = """
import asyncio
from warren_ikev2.daemon import __main__ as daemon
sys.argv = ["daemon", "--socket", "unused"]
asyncio.run = lambda work: work.close()  # what the daemon is when it begins to serve
daemon.main()
"""


def show(code: str) -> list[str]:
    """The size of core files in bytes, and PR_GET_DUMPABLE, after the code has run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _SHOW.format(code)], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


@pytest.mark.skipif(
    0 <= resource.getrlimit(resource.RLIMIT_CORE)[1] < 4096, reason="core files are forbidden here already"
)
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", ["4096", "1"]),
        ("from warren_ikev2.dataplane.privileges import protect_memory; protect_memory()", ["0", "0"]),
        (_DAEMON, ["0", "0"]),
    ],
    ids=["as it is", "protected", "the daemon"],
)
def test_a_process_with_keys_writes_no_core_file(code: str, expected: list[str]) -> None:
    assert show(code) == expected
