"""Our endpoint and a charon, each in a namespace of its own, joined by a veth pair; one bed for each test module.

203.0.113.1 is ours, with a TUN device for 10.91.1.1; 203.0.113.2 is charon's, which protects 10.91.2.1.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from warren_lab.charon_conf import Settings, charon_settings
from warren_testkit.lab.ike_bed import SETTINGS, Bed, make_bed

GTC_PLUGINS = "eap-gtc xauth-generic"
"""EAP-GTC in both roles; xauth-generic makes charon verify passwords against its own secrets instead of PAM."""


@pytest.fixture(scope="module")
def bed(namespaces: None) -> Iterator[Bed]:
    with make_bed(lambda lab, peer: lab.charon(peer, charon_settings(extra={"charon": SETTINGS}))) as made:
        yield made


@pytest.fixture(scope="module")
def gtc_bed(namespaces: None) -> Iterator[Bed]:
    """The same with a charon that supports EAP-GTC."""
    plain = charon_settings()["charon"]
    assert not isinstance(plain, str)
    gtc: Settings = {
        **SETTINGS,
        "load": f"{plain['load']} {GTC_PLUGINS}",
        "plugins": {"eap-gtc": {"backend": "generic"}},
    }
    settings = charon_settings(extra={"charon": gtc})
    with make_bed(lambda lab, peer: lab.charon(peer, settings)) as made:
        yield made


@pytest.fixture(scope="module")
def sid_bed(namespaces: None, other_strongswan: Callable[[str], Path]) -> Iterator[Bed]:
    """The same with the strongSwan of Debian sid, for what Debian 12's does not support."""
    root, settings = other_strongswan("sid"), charon_settings(extra={"charon": SETTINGS})
    with make_bed(lambda lab, peer: lab.charon(peer, settings, root)) as made:
        yield made


CELLS: dict[str, bool] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Count the cells of the matrix: one is passed only if nothing of it failed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's Result, which pytest does not type here
    if item.get_closest_marker("matrix") is not None and not report.skipped:
        CELLS[item.nodeid] = CELLS.get(item.nodeid, True) and report.passed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CELLS:
        failed = [name for name, passed in CELLS.items() if not passed]
        for name in failed:
            terminalreporter.write_line(f"cell failed: {name.rpartition('[')[2].rstrip(']')}")
        terminalreporter.write_line(
            f"interoperability matrix: {len(CELLS) - len(failed)} cells passed, {len(failed)} failed"
        )
