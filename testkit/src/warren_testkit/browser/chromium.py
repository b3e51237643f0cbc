"""Debian's Chromium, driven by Playwright, and a page that must do nothing that it should not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Playwright

CHROMIUM = Path("/usr/bin/chromium")
LIMIT_MS = 30_000.0  # for what takes two seconds on idle cores
STATE_LIMIT_MS = 90_000.0  # for a state that follows from timers of IKE
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def launch(playwright: Playwright) -> Browser:
    """Debian's Chromium, which asks nobody else for anything."""
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    return playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)


def context_of(browser: Browser, **options: Any) -> BrowserContext:
    """A context that reports every address it loads that is not of the server, and every error of the page."""
    context = browser.new_context(ignore_https_errors=True, **options)
    context.set_default_timeout(LIMIT_MS)
    return context


@contextmanager
def watched(context: BrowserContext, origin: str) -> Iterator[Page]:
    """A page that must load nothing from elsewhere, break no policy, and report no error."""
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("console", lambda line: problems.append(f"console: {line.text}") if _is_problem(line.text) else None)
    page.on(
        "request", lambda request: None if _is_own(request.url, origin) else problems.append(f"foreign: {request.url}")
    )
    page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    try:
        yield page
    finally:
        page.close()
    if problems:
        raise AssertionError("\n".join(problems))


def _is_problem(text: str) -> bool:
    return any(word in text for word in ("Content Security Policy", "Trusted", "Refused to", "Uncaught"))


def _is_own(url: str, origin: str) -> bool:
    return url.startswith((f"{origin}/", "blob:", "data:"))
