"""What the tests on real parts share."""

from collections.abc import Callable
from pathlib import Path

import pytest

# Real daemons share two cores with whatever else runs: a test on them that fails is tried again, and the summary names it as
# RERUN. Whoever sees the same name twice has found a fault, not bad luck.
TRIES_AGAIN = 2

BUILD_FOLDER = Path(__file__).parents[2] / "build"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=TRIES_AGAIN))


@pytest.fixture(scope="session")
def other_strongswan() -> Callable[[str], Path]:
    """The folder with the strongSwan of another Debian release, by the release's name; skips where there is none."""

    def find(suite: str) -> Path:
        folder, reason = BUILD_FOLDER / suite, BUILD_FOLDER / f"{suite}.reason"
        if not (folder / "usr/lib/ipsec/charon").exists():
            said = (
                reason.read_text().strip() if reason.exists() else f"build/{suite} is not there; make test-all makes it"
            )
            pytest.skip(said)
        return folder

    return find
