"""Make the pictures of the documentation: every view on a running demo, at the width of a desktop and of a phone.

Example:

  python -m warren_testkit.browser.screenshots docs/images
"""

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from warren_lab.process import wait_until
from warren_testkit.browser.chromium import DESKTOP, PHONE, context_of, launch, watched
from warren_testkit.browser.demo import Demo, running_demo
from warren_testkit.browser.views import THEMES, VIEWS, paste, show

COLOURS = 256  # the page has few: a fraction of the size without a visible difference
LIMIT_BYTES = 2_000_000  # of all pictures together
BROKEN = "spoke-2"
TRAFFIC_MINUTES = 4  # in the chart of the tunnel that breaks
FAULT_LIMIT_MS = 90_000.0  # until the hub reports that it does not answer
PLAN = """id: branches
topology:
  kind: hub-spoke
  hubs: [tag=hub]
  spokes: [tag=branch]
crypto:
  profile: nist-800-77r1
options:
  ike:
    dpd_delay: 5
"""


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    log = Path("build/screenshots.log")
    with running_demo(log) as demo, demo.traffic("spoke-1", "spoke-2"), sync_playwright() as playwright:
        policy = demo.call("GET", "/api/policies/branches")["policy"]
        demo.call("PUT", "/api/policies/branches", {**policy, "options": {"ike": {"dpd_delay": 1}}})
        wait_until(lambda: _minutes(demo) >= TRAFFIC_MINUTES, "minutes with counters", 60.0 * (TRAFFIC_MINUTES + 2))
        browser = launch(playwright)
        for device, size in (("desktop", DESKTOP), ("phone", PHONE)):
            for theme in THEMES:
                if (device, theme) == ("phone", "dark"):
                    continue  # four pictures of a view show nothing more than three
                options: dict[str, Any] = {"viewport": size, "color_scheme": theme}
                with (
                    demo.ike_blocked(BROKEN),
                    context_of(browser, **options) as context,
                    watched(context, demo.url) as page,
                ):
                    _take(page, demo, folder, f"{device}-{theme}")
        browser.close()
    total = sum(path.stat().st_size for path in folder.glob("*.png"))
    print(f"{len(list(folder.glob('*.png')))} pictures, {total:,} bytes")
    if total > LIMIT_BYTES:
        raise SystemExit(f"the pictures have more than {LIMIT_BYTES:,} bytes")


def _minutes(demo: Demo) -> int:
    """How many minutes of the tunnel that breaks have been counted."""
    ends = demo.call("GET", f"/api/tunnels/hub%2B{BROKEN}/counters")["ends"]
    return min((sum(it is not None for it in end["bytes_in"]) for end in ends.values()), default=0)


def _take(page: Any, demo: Demo, folder: Path, suffix: str) -> None:
    page.goto(demo.sign_in_link())
    page.locator("main li", has_text=BROKEN).first.wait_for(timeout=FAULT_LIMIT_MS)
    for view in VIEWS:
        if suffix == "desktop-dark" and view not in ("fleet", "tunnel"):
            continue
        show(page, demo.url, view, f"/tunnels/hub%2B{BROKEN}" if view == "tunnel" else "")
        if view == "policy":
            paste(page.get_by_role("textbox", name="Policy as YAML"), PLAN)
            page.locator("[data-effect]").first.wait_for()
        if view == "fleet":
            page.locator("[data-gateways=true]").wait_for()
        if view == "tunnel":
            page.locator("[data-traffic] canvas").last.wait_for()
            page.get_by_role("region", name="History").locator("li").first.wait_for()
        _store(page.screenshot(full_page=view == "tunnel"), folder / f"{view}-{suffix}.png")
        if view == "policy":
            page.get_by_role("button", name="Discard changes").click()  # nothing unsaved holds the page back


def _store(png: bytes, path: Path) -> None:
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


if __name__ == "__main__":
    main()
