"""Every view of the page on the demo: its address, and the element that shows that it has loaded."""

from typing import Any

VIEWS = {
    "sign-in": ("/sign-in", "text=Sign in to Warren"),
    "fleet": ("/", "[data-known=true] [data-count=up]"),
    "map": ("/map", "svg .node"),
    "tunnels": ("/tunnels", "[data-row]"),
    "tunnel": ("/tunnels/hub%2Bspoke-1", "[data-end]"),
    "peers": ("/peers", "[data-row]"),
    "peer": ("/peers/spoke-1", "text=Enrolled"),
    "policies": ("/policies", "[data-row]"),
    "policy": ("/policies/branches", ".cm-line"),
    "policy-history": ("/policies/branches?tab=history", "[data-version]"),
    "tokens": ("/tokens", "text=API tokens"),
    "audit": ("/audit", "[data-row]"),
    "audit-policies": ("/audit?log=policies", "[data-row]"),
}
THEMES = ("light", "dark")


def show(page: Any, url: str, view: str, path: str = "") -> None:
    """Open a view in a page (playwright's), at its usual path or another one, and wait until it has loaded."""
    usual, shown = VIEWS[view]
    page.goto(f"{url}{path or usual}")
    page.locator(shown).first.wait_for()
    page.wait_for_function("document.fonts.ready")
    if view == "policy-history":
        page.locator("[data-version] button").first.click()
        page.locator("[data-difference]").first.wait_for()


def paste(editor: Any, text: str) -> None:
    """Replace the content of the policy editor (playwright's Locator) as a paste does: nothing is completed or indented."""
    editor.click()
    editor.press("Control+a")
    editor.evaluate(
        """(element, text) => {
            const data = new DataTransfer()
            data.setData('text/plain', text)
            element.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}))
        }""",
        text,
    )
