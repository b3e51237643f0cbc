"""Unsaved edits of the policy editor: no way out of it loses them without a question."""

from typing import Any

import pytest

from warren_testkit.browser.demo import Demo
from warren_testkit.browser.views import THEMES, paste

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

POLICY = "branches"
EDIT = (
    f"id: {POLICY}\ntopology:\n  kind: hub-spoke\n  spokes: [tag=branch]\n  hubs: [tag=hub]\n"
    "crypto:\n  profile: nist-800-77r1\noptions: {ike: {dpd_delay: 7}}\n"
)
MARK = "dpd_delay: 7"
# What a browser does before it closes or reloads a tab; true: it asks.
ASKS = "() => !window.dispatchEvent(new Event('beforeunload', {cancelable: true}))"


def test_unsaved_edits_are_lost_only_on_purpose(demo: Demo, page: Any, axe: str) -> None:
    page.context.new_cdp_session(page).send("Page.setBypassCSP", {"enabled": True})  # for axe
    before = demo.call("GET", f"/api/policies/{POLICY}")["policy"]
    page.goto(f"{demo.url}/policies")
    page.get_by_role("link", name=POLICY, exact=True).click()
    editor = page.get_by_role("textbox", name="Policy as YAML")
    question = page.get_by_role("dialog", name=f"Discard your unsaved edits of the policy {POLICY}?")
    keep, discard = (question.get_by_role("button", name=name) for name in ("Keep editing", "Discard"))
    editor.wait_for()
    assert not page.evaluate(ASKS)
    paste(editor, EDIT)
    assert page.evaluate(ASKS)

    # A link, by keys: the question has the focus, and gives it back.
    link = page.get_by_role("navigation", name="Views").get_by_role("link", name="Tunnels")
    link.press("Enter")
    expect(keep).to_be_focused()
    assert _serious(page, axe) == []
    for button in (discard, keep):
        page.keyboard.press("Tab")
        expect(button).to_be_focused()
    page.keyboard.press("Escape")
    expect(question).to_have_count(0)
    expect(link).to_be_focused()

    # The browser's back button, from inside the editor.
    editor.click()
    page.evaluate("history.back()")
    expect(keep).to_be_focused()
    page.keyboard.press("Enter")
    expect(question).to_have_count(0)
    expect(editor).to_be_focused()

    page.get_by_role("button", name="Sign out").click()
    keep.click()
    expect(editor).to_contain_text(MARK)
    expect(page).to_have_url(f"{demo.url}/policies/{POLICY}")

    # The stored text again is not an edit.
    editor.click()
    editor.press("Control+z")
    expect(editor).not_to_contain_text(MARK)
    assert not page.evaluate(ASKS)
    link.click()
    expect(page).to_have_url(f"{demo.url}/tunnels")
    page.evaluate("history.back()")

    paste(editor, EDIT)
    _session_ends(demo, page)
    expect(editor).to_contain_text(MARK)
    _discarded(demo, page)
    assert demo.call("GET", f"/api/policies/{POLICY}")["policy"] == before


def _session_ends(demo: Demo, page: Any) -> None:
    """The session of an edit ends, and the same user signs in again."""
    page.context.clear_cookies()
    page.get_by_role("button", name="Check now").click()
    expect(page.get_by_role("status").filter(has_text="Your unsaved edits")).to_be_visible()
    assert page.evaluate(ASKS)
    page.get_by_label("API token").fill(demo.token)
    page.get_by_role("button", name="Sign in").click()


def _discarded(demo: Demo, page: Any) -> None:
    """An edit is discarded for a link, and another one for a step forward."""
    editor = page.get_by_role("textbox", name="Policy as YAML")
    for leave in ("document.querySelector('nav a[href=\"/tunnels\"]').click()", "history.forward()"):
        paste(editor, EDIT)
        page.evaluate(leave)
        page.get_by_role("dialog").get_by_role("button", name="Discard").click()
        expect(page).to_have_url(f"{demo.url}/tunnels")
        page.wait_for_function("document.activeElement.id === 'main'")
        page.evaluate("history.back()")
        expect(editor).to_be_visible()
        expect(editor).not_to_contain_text(MARK)


def _serious(page: Any, axe: str) -> list[str]:
    """What axe finds against WCAG 2 A and AA in the open dialogue, in both themes."""
    page.evaluate(axe)
    found = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        tags = "{type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']}"
        result = page.evaluate(f"axe.run('[role=dialog]', {{runOnly: {tags}, resultTypes: ['violations']}})")
        found += [f"{theme}: {it['id']}: {it['help']}" for it in result["violations"]]
    return found
