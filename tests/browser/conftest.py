"""One demo and one browser for all tests of the page; each test has a browser context of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from warren_lab.lab import can_make_namespaces
from warren_stack.demo.requirements import missing_packages
from warren_testkit.browser.demo import Demo, running_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo on strongSwan: a hub and two spokes, both tunnels up."""
    if not can_make_namespaces():
        pytest.skip("needs root or a user namespace with capabilities")
    if missing := missing_packages("strongswan"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    with running_demo(tmp_path_factory.mktemp("demo") / "demo.log") as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium (playwright's Browser)."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-browser")
    from warren_testkit.browser import chromium

    if chromium.CHROMIUM is None:
        pytest.skip("chromium is not installed: deploy/debian/setup.sh --browser")
    sync_api.expect.set_options(timeout=60_000)  # ms, of a busy machine; 5,000 without this
    with sync_api.sync_playwright() as playwright:
        found = chromium.launch(playwright)
        yield found
        found.close()


@pytest.fixture
def page(demo: Demo, browser: Any) -> Iterator[Any]:
    """A page (playwright's) that is signed in as an administrator by a link."""
    from warren_testkit.browser import chromium

    with (
        chromium.context_of(browser, viewport=chromium.DESKTOP) as context,
        chromium.watched(context, demo.url) as opened,
    ):
        opened.goto(demo.sign_in_link())
        opened.get_by_role("heading", name="Fleet").wait_for()
        yield opened


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which `make web` has installed."""
    found = Path("build", "web", "work", "node_modules", "axe-core", "axe.min.js")
    if not found.exists():
        pytest.skip("axe-core is not installed: make web")
    return found.read_text()
