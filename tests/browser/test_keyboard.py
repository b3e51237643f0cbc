"""The whole job by keys only, and what a screen reader announces of it."""

import re
from typing import Any

import pytest

from warren_testkit.browser.demo import Demo

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

POLICY, TUNNEL = "branches", "hub+spoke-2"
STATE_LIMIT_MS = 90_000.0
# The element with the focus, also inside of the editor's shadow root: its role or tag, and its name or text.
FOCUS = """() => {
  let it = document.activeElement
  while (it.shadowRoot?.activeElement) it = it.shadowRoot.activeElement
  const name = it.getAttribute('aria-label') ?? it.labels?.[0]?.textContent ?? it.textContent
  return `${it.getAttribute('role') ?? it.localName} ${it.id === 'main' ? '#main' : name.trim().replace(/\\s+/g, ' ').slice(0, 80)}`
}"""


def _tab_to(page: Any, wanted: str, key: str = "Tab") -> None:
    """Press Tab until an element has the focus; it may be 60 stops away."""
    for _ in range(60):
        page.keyboard.press(key)
        if re.match(wanted, page.evaluate(FOCUS)):
            return
    raise AssertionError(f"no {wanted} by {key}; the focus is on: {page.evaluate(FOCUS)}")


def test_the_skip_link_leads_to_the_content(demo: Demo, page: Any) -> None:
    page.goto(f"{demo.url}/tunnels")
    page.locator("[data-row]").first.wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS) == "a Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate(FOCUS) == "main #main"
    assert page.url == f"{demo.url}/tunnels"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_the_whole_job_is_done_by_keys(demo: Demo, page: Any) -> None:
    keys = page.keyboard
    _tab_to(page, "button Sign out")
    keys.press("Enter")
    expect(page.get_by_label("API token")).to_be_focused()
    keys.type(demo.token)
    keys.press("Enter")
    page.get_by_role("heading", name="Fleet").wait_for()

    _tab_to(page, "a Policies")
    keys.press("Enter")
    page.locator(f"[data-row={POLICY}]").wait_for()
    assert page.evaluate(FOCUS) == "main #main"
    _tab_to(page, f"a {POLICY}$")
    keys.press("Enter")
    page.get_by_role("textbox", name="Policy as YAML").wait_for()
    before = demo.call("GET", f"/api/policies/{POLICY}")["policy"]
    _edit(page)
    after = demo.call("GET", f"/api/policies/{POLICY}")["policy"]
    assert (after["version"], after["options"]["ike"]["dpd_delay"]) == (before["version"] + 1, 3)
    _read_why(demo, page)
    _roll_back(page, before["version"], after["version"] + 1)
    stored = demo.call("GET", f"/api/policies/{POLICY}")["policy"]
    assert (stored["version"], stored["options"]) == (after["version"] + 1, before["options"])


def _edit(page: Any) -> None:
    """An edit; what is wrong with it is read out, and then that it is stored."""
    keys = page.keyboard
    _tab_to(page, "textbox Policy as YAML")
    keys.press("Control+End")
    keys.type("options: {ike: {dpd_delay: x}}\n")
    status = page.get_by_role("region", name="Check and plan").get_by_role("status")
    expect(status).to_have_text(re.compile(r"1 error, the first on line \d+\."))
    for key in ("ArrowUp", "End", "Shift+Home", "Backspace"):
        keys.press(key)
    keys.type("options: {ike: {dpd_delay: 3}}")
    expect(status).to_have_text("Checked: no errors.")
    keys.press("Tab")  # leaves the editor
    _tab_to(page, "button Apply")
    expect(page.locator("[data-effect]").first).to_be_visible()
    keys.press("Enter")
    expect(status).to_have_text(re.compile("Stored as revision"))
    assert page.evaluate(FOCUS) == "button Apply"


def _read_why(demo: Demo, page: Any) -> None:
    """The tunnel, and why it fails: both are read out."""
    keys = page.keyboard
    _tab_to(page, "a Tunnels", "Shift+Tab")
    keys.press("Enter")
    page.locator(f"[data-row='{TUNNEL}']").wait_for()
    _tab_to(page, f"a {re.escape(TUNNEL)}")
    keys.press("Enter")
    spoken = page.locator("main > [role=status]").first
    expect(spoken).to_have_text("The tunnel is up", timeout=STATE_LIMIT_MS)
    with demo.ike_blocked("spoke-2"):
        expect(spoken).to_have_text(
            re.compile("The tunnel is (degraded|connecting|down): Peer .*(answer|reach)"), timeout=STATE_LIMIT_MS
        )
        expect(page.locator("[data-reason]")).to_contain_text("Next:")
    expect(spoken).to_have_text("The tunnel is up", timeout=STATE_LIMIT_MS)


def _roll_back(page: Any, to: int, version: int) -> None:
    """Store the content of a version again, from the page of the tunnel on."""
    keys = page.keyboard
    _tab_to(page, f"a {POLICY}$")
    keys.press("Enter")
    page.get_by_role("tab", name="History").wait_for()
    _tab_to(page, "tab Edit")
    for _ in range(2):
        keys.press("ArrowRight")
    page.locator("[data-version]").first.wait_for()
    _tab_to(page, f"button version {to} ")
    keys.press("Space")
    label = f"Roll back to version {to}"
    expect(page.get_by_role("button", name=label)).to_be_visible()
    _tab_to(page, f"button {label}")
    keys.press("Enter")
    _tab_to(page, f"button {label}")
    assert page.evaluate("document.activeElement.closest('[role=dialog]') !== null")
    keys.press("Enter")
    said = f"Rolled back to version {to}: its content is stored as version {version}."
    expect(page.get_by_role("status").filter(has_text=said)).to_be_focused()
