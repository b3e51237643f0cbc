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

from warren_testkit.browser.chromium import DESKTOP, PHONE, context_of, launch, watched
from warren_testkit.browser.demo import Demo, running_demo
from warren_testkit.browser.views import THEMES, VIEWS, paste, show

COLOURS = 64  # the page has few: an eighth of the size without a visible difference
LIMIT_BYTES = 2_000_000  # of all pictures together
PLAN = """id: branches
topology:
  kind: hub-spoke
  hubs: [tag=hub]
  spokes: [tag=branch]
crypto:
  profile: nist-800-77r1
options:
  ike:
    dpd_delay: 10
"""


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    log = Path("build/screenshots.log")
    with running_demo(log) as demo, sync_playwright() as playwright:
        browser = launch(playwright)
        for device, size in (("desktop", DESKTOP), ("phone", PHONE)):
            for theme in THEMES:
                if (device, theme) == ("phone", "dark"):
                    continue  # four pictures of a view show nothing more than three
                options: dict[str, Any] = {"viewport": size, "color_scheme": theme}
                with context_of(browser, **options) as context, watched(context, demo.url) as page:
                    _take(page, demo, folder, f"{device}-{theme}")
        browser.close()
    total = sum(path.stat().st_size for path in folder.glob("*.png"))
    print(f"{len(list(folder.glob('*.png')))} pictures, {total:,} bytes")
    if total > LIMIT_BYTES:
        raise SystemExit(f"the pictures have more than {LIMIT_BYTES:,} bytes")


def _take(page: Any, demo: Demo, folder: Path, suffix: str) -> None:
    page.goto(demo.sign_in_link())
    page.get_by_role("heading", name="Fleet").wait_for()
    for view in VIEWS:
        if suffix == "desktop-dark" and view not in ("fleet", "tunnel"):
            continue
        show(page, demo.url, view)
        if view == "policy":
            paste(page.get_by_role("textbox", name="Policy as YAML"), PLAN)
            page.locator("[data-effect]").first.wait_for()
        _store(page.screenshot(), folder / f"{view}-{suffix}.png")


def _store(png: bytes, path: Path) -> None:
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


if __name__ == "__main__":
    main()
