"""Two tabs of one session."""

from typing import Any

import pytest

from warren_testkit.browser.demo import Demo

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

LIMIT_MS = 90_000.0


def test_a_sign_out_in_one_tab_ends_the_other_one(demo: Demo, page: Any) -> None:
    other = page.context.new_page()
    other.goto(f"{demo.url}/tunnels")
    other.locator("[data-row]").first.wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    other.get_by_role("heading", name="Sign in").wait_for(timeout=LIMIT_MS)  # the live stream ends, or its check does
    expect(other.get_by_text("session has ended")).to_be_visible()
    assert other.locator("[data-state], [data-row]").count() == 0
    other.get_by_label("API token").fill(demo.token)
    other.get_by_role("button", name="Sign in").click()
    other.locator("[data-row]").first.wait_for()  # where it was
    assert other.url == f"{demo.url}/tunnels"
    other.close()
