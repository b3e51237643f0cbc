"""Debian's Chromium, driven by Playwright, and a page that must do nothing that it should not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

CHROMIUM = next(
    (path for path in (Path("/usr/bin/chromium"), Path("/usr/bin/chromium-headless-shell")) if path.exists()), None
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
LIMIT_MS = 30_000.0  # for what takes two seconds on idle cores
_PROBLEMS = ("Content Security Policy", "Trusted", "Refused to", "Uncaught")
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def launch(playwright: Playwright) -> Browser:
    """Debian's Chromium (or its shell without windows), which asks nobody else for anything."""
    assert CHROMIUM is not None
    expect.set_options(timeout=LIMIT_MS)
    return playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)


def context_of(browser: Browser, **options: Any) -> BrowserContext:
    """A context of its own: no cookie of another test. The server's CA is the demo's own."""
    context = browser.new_context(ignore_https_errors=True, **options)
    context.set_default_timeout(LIMIT_MS)
    return context


@contextmanager
def watched(context: BrowserContext, origin: str) -> Iterator[Page]:
    """A page that must load nothing from elsewhere, break no policy, and report no error."""
    page = context.new_page()
    problems: list[str] = []

    def dismiss(dialog: Any) -> None:
        problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def check_console(line: Any) -> None:
        if any(word in line.text for word in _PROBLEMS):
            problems.append(f"console: {line.text}")

    def check_request(request: Any) -> None:
        if not request.url.startswith((f"{origin}/", "blob:", "data:")):
            problems.append(f"foreign: {request.url}")

    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("console", check_console)
    page.on("request", check_request)
    page.on("dialog", dismiss)
    try:
        yield page
    finally:
        page.close()
    if problems:
        raise AssertionError("\n".join(problems))
