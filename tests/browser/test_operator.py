"""What an operator does on the page, on a running demo: from sign-in to a rolled back policy."""

from typing import Any

import pytest

from warren_lab.process import wait_until
from warren_testkit.browser.demo import Demo
from warren_testkit.browser.views import paste

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

POLICY = "branches"
TUNNEL = "hub+spoke-1"
STATE_LIMIT_MS = 90_000.0  # for a state that follows from timers of IKE


def test_an_operator_signs_in_edits_applies_sees_a_fault_and_rolls_back(demo: Demo, page: Any) -> None:
    assert "code" not in page.url  # the code is out of the address bar
    expect(page.locator("[data-count=up]")).to_contain_text("2")

    # A finding stands at its line while the text is wrong.
    page.goto(f"{demo.url}/policies/{POLICY}")
    editor = page.get_by_role("textbox", name="Policy as YAML")
    editor.wait_for()
    before = demo.call("GET", f"/api/policies/{POLICY}")["policy"]
    paste(editor, _text("[tag=hub]", "[tag=brnch]"))
    finding = page.locator("[data-finding]").first
    expect(finding).to_contain_text("line 5")
    expect(page.locator(".cm-lint-marker").first).to_be_visible()
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()

    # The plan names what a right text would do to each live tunnel; it is applied.
    paste(editor, _text("[tag=hub]", "[tag=branch]", "options: {ike: {dpd_delay: 1}}\n"))
    planned = page.locator("[data-effect]").first
    expect(planned).to_have_attribute("data-interruption", "re-established")
    expect(planned).to_contain_text("a packet on the way may be lost")
    expect(planned).to_contain_text("ago, from hub and spoke-1")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("Stored as revision")).to_be_visible()
    after = demo.call("GET", f"/api/policies/{POLICY}")["policy"]
    assert after["version"] == before["version"] + 1
    assert after["options"]["ike"]["dpd_delay"] == 1

    # The tunnel comes back with it; then IKE is blocked, and the page says why the tunnel fails.
    page.goto(f"{demo.url}/tunnels/{TUNNEL.replace('+', '%2B')}")
    state = page.get_by_role("region", name="State").locator("[data-state]").first
    expect(state).to_have_attribute("data-state", "up", timeout=STATE_LIMIT_MS)
    _rekey(demo, page)
    with demo.ike_blocked("spoke-1"):
        expect(state).not_to_have_attribute("data-state", "up", timeout=STATE_LIMIT_MS)
        reason = page.locator("[data-reason]")
        expect(reason).to_contain_text("does not answer", timeout=STATE_LIMIT_MS)
        expect(reason).to_contain_text("Next:")
        assert reason.get_attribute("data-reason") in ("peer-unreachable", "peer-not-answering")
        before_break = page.locator("[data-before]")  # what changed before it broke: the version that was applied above
        expect(before_break.get_by_role("link", name=f"{POLICY} version {after['version']}").first).to_be_visible()
        expect(before_break).to_contain_text("updated by admin")
    expect(state).to_have_attribute("data-state", "up", timeout=STATE_LIMIT_MS)

    # Rolled back: the old content is the newest version.
    page.goto(f"{demo.url}/policies/{POLICY}?tab=history")
    page.locator(f"[data-version='{before['version']}'] button").first.click()
    expect(page.locator("[data-difference]").first).to_be_visible()
    expect(page.locator("[data-effects]")).to_contain_text("2 re-established")
    label = f"Roll back to version {before['version']}"
    page.get_by_role("button", name=label).click()
    page.get_by_role("dialog").get_by_role("button", name=label).click()
    expect(page.locator(f"[data-version='{after['version'] + 1}']")).to_be_visible()
    stored = demo.call("GET", f"/api/policies/{POLICY}")["policy"]
    assert (stored["version"], stored["options"]) == (after["version"] + 1, before["options"])


def _rekey(demo: Demo, page: Any) -> None:
    """New keys, made by the agent and charon at the end whose button is used; the tunnel stays up, and both ends have the new SA."""
    # An edit has just made a new IKE_SA: the old one goes a moment after the tunnel is up.
    wait_until(lambda: len(_spis(demo)) == 1, "one CHILD_SA", STATE_LIMIT_MS / 1_000)
    before = _spis(demo)
    orders = page.locator("[data-sa=net] [data-orders=spoke-1]").first
    orders.get_by_role("button", name="Rekey CHILD_SA net at spoke-1").click()
    expect(page.locator("[data-ordered]")).to_have_text("CHILD_SA net at spoke-1: asked for new keys.")
    wait_until(lambda: len(_spis(demo) - before) == len(_spis(demo)) == 1, "new keys", STATE_LIMIT_MS / 1_000)
    state = page.get_by_role("region", name="State").locator("[data-state]").first
    expect(state).to_have_attribute("data-state", "up")
    [spi] = _spis(demo)
    row = page.locator("[data-sa=net]", has_text=spi)
    for peer, direction in (("spoke-1", "in"), ("hub", "out")):
        expect(row.locator(f"[data-sa-end={peer}]")).to_contain_text(f"{spi} {direction}", timeout=STATE_LIMIT_MS)


def _spis(demo: Demo) -> set[str]:
    end = demo.call("GET", f"/api/tunnels/{TUNNEL.replace('+', '%2B')}")["ends"]["spoke-1"]
    return {sa["spi_in"] for sa in end["link"]["children"]}


def _text(hubs: str, spokes: str, more: str = "") -> str:
    return (
        f"id: {POLICY}\nname: Branches to the hub\ntopology:\n  kind: hub-spoke\n  spokes: {spokes}\n  hubs: {hubs}\n"
        f"crypto:\n  profile: nist-800-77r1\n{more}"
    )
