"""The restart of one SA from the page."""

from typing import Any

import pytest

from warren_lab.process import wait_until
from warren_testkit.browser.demo import Demo

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

LIMIT_MS = 90_000.0


def _end(demo: Demo) -> dict[str, Any]:
    found: dict[str, Any] = demo.call("GET", "/api/tunnels/hub%2Bspoke-1")["ends"]["spoke-1"]
    return found


def test_one_sa_is_restarted_from_the_page(demo: Demo, page: Any) -> None:
    """A CHILD_SA keeps its IKE_SA; the IKE_SA takes its CHILD_SAs with it."""
    wait_until(lambda: _end(demo)["state"] == "up", "the tunnel", LIMIT_MS / 1_000)
    page.goto(f"{demo.url}/tunnels/hub%2Bspoke-1")
    for what in ("CHILD_SA net", "IKE_SA"):
        before = {sa["spi_in"] for sa in _end(demo)["link"]["children"]}
        button = page.get_by_role("button", name=f"Restart {what} at spoke-1")
        button.click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("closed and negotiated again")
        dialog.get_by_role("button", name="Cancel").click()
        expect(button).to_be_focused()
        button.click()
        confirm = dialog.get_by_role("button", name="Restart")

        def accepted(confirm: Any = confirm, dialog: Any = dialog) -> bool:
            """An agent takes one order in five seconds."""
            confirm.click()
            dialog.get_by_role("alert").or_(page.locator("[data-ordered]:not(:empty)")).first.wait_for()
            return bool(dialog.get_by_role("alert").count() == 0)

        wait_until(accepted, f"a restart of {what}", LIMIT_MS / 1_000)
        said = page.locator("[data-ordered]")
        expect(said).to_have_text(f"{what} at spoke-1: asked to restart.")

        def renewed(before: set[str] = before) -> bool:
            now = _end(demo)
            spis = {sa["spi_in"] for sa in now["link"]["children"]}
            return now["state"] == "up" and len(spis) == 1 and spis.isdisjoint(before)

        wait_until(renewed, f"new keys after a restart of {what}", LIMIT_MS / 1_000)
    state = page.get_by_role("region", name="State").locator("[data-state]").first
    expect(state).to_have_attribute("data-state", "up", timeout=LIMIT_MS)
