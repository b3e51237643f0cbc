"""The web page in Chromium, on the real API server and metrics service with a fleet of generated reports.

`browser_latency`: from a change that a gateway publishes to the frame in which the row shows the new state, with 10,000 tunnels in the
system, 30 changes a run. `page_size`: the compressed bytes of the page's own files that the browser loads before it shows the fleet.
`page_first_rows_100000`: from the navigation to the first rows, with 100,000 tunnels. `page_scroll_100000`: from a jump of the scroll
bar to the frame with the rows of that place, 95th percentile. Without Chromium, or where the page was not built, nothing is measured.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from harness import Bench, Row, absolute
from live_latency import SPOKES, Fleet, messages_of, publish, running_fleet, status

from warren_api.page import load_page, page_folder
from warren_contracts.commands import Role
from warren_contracts.status import TunnelState
from warren_contracts.telemetry import TunnelChange
from warren_testkit.api import TOKENS
from warren_testkit.postgres import PostgresServer, postgres_server

CHANGES, RUNS, PAUSE_S = 30, 5, 0.2
MANY_HUBS = 100  # 100,000 tunnels
MANY_PAUSE_S = 15.0  # a round takes ten seconds more, and an agent is offline after thirty
LOADS, SCROLLS = 5, 40
LIMIT_MS = 120_000.0
MAX_P95_MS, MAX_BYTES, MAX_FIRST_ROWS_MS, MAX_SCROLL_MS = 500.0, 160_000, 5_000.0, 100.0

# Notes for each row when a frame has shown it in another state. Both clocks are the machine's.
WATCH = """() => {
  window.seen = {}
  const note = () => {
    for (const row of document.querySelectorAll('[data-row]')) {
      const state = row.querySelector('[data-state]')?.dataset.state
      const known = (window.seen[row.dataset.row] ??= {})
      if (state !== undefined && known.state !== state) {
        window.seen[row.dataset.row] = { state, at: performance.timeOrigin + performance.now() }
      }
    }
    requestAnimationFrame(note)
  }
  requestAnimationFrame(note)
}"""
JUMP = """async (part) => {
  const table = document.querySelector('[role=region][aria-label=Tunnels]')
  const began = performance.now()
  table.scrollTop = part * (table.scrollHeight - table.clientHeight)
  const inView = () => {
    const box = table.getBoundingClientRect()
    return [...table.querySelectorAll('[data-row]')].some((row) => {
      const place = row.getBoundingClientRect()
      return place.top >= box.top + 60 && place.bottom <= box.bottom
    })
  }
  do await new Promise(requestAnimationFrame)
  while (!inView())
  return performance.now() - began
}"""
SIZE = """() => [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .filter((it) => !new URL(it.name).pathname.startsWith('/api/'))
  .reduce((sum, it) => sum + it.encodedBodySize, 0)"""


@asynccontextmanager
async def _signed_in(url: str) -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright  # only where Chromium is

    from warren_testkit.browser.chromium import ARGUMENTS, CHROMIUM, DESKTOP

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        context = await browser.new_context(viewport=DESKTOP)
        context.set_default_timeout(LIMIT_MS)
        page = await context.new_page()
        await page.goto(f"{url}/sign-in")
        await page.get_by_label("API token").fill(TOKENS[Role.VIEWER])
        await page.get_by_role("button", name="Sign in").click()
        await page.locator("[data-known=true]").wait_for()
        try:
            yield page
        finally:
            await browser.close()


async def _change(fleet: Fleet, spoke: int, state: TunnelState, number: int) -> float:
    """Publish a change of one tunnel; the time, in ms since 1970."""
    previous = TunnelState.UP if state is TunnelState.DOWN else TunnelState.DOWN
    body = TunnelChange(at=datetime.now(UTC), previous=previous, status=status(0, spoke, state))
    fleet.states[0, spoke] = state
    at = time.time() * 1_000
    await publish(fleet.agents, "hub-0", "tunnel", body, 500_000 + number)
    return at


async def _latencies(fleet: Fleet, page: Any) -> list[float]:
    """The 95th percentile of each run, in ms."""
    await page.goto(f"{fleet.url}/tunnels?q=name:hub-0*&sort=name")
    await page.locator("[data-row]").first.wait_for()
    await page.evaluate(WATCH)
    names = (await page.locator("[data-row]").evaluate_all("(rows) => rows.map((row) => row.dataset.row)"))[:8]
    results, number, states = [], 0, dict.fromkeys(names, TunnelState.UP)
    for _ in range(RUNS):
        took = []
        for _ in range(CHANGES):
            name = names[number % len(names)]
            states[name] = TunnelState.DOWN if states[name] is TunnelState.UP else TunnelState.UP
            sent = await _change(fleet, int(name.rsplit("-", 1)[1]), states[name], number)
            await page.wait_for_function(
                "([name, state]) => window.seen[name]?.state === state", arg=[name, states[name].value], polling=20
            )
            took.append(await page.evaluate("(name) => window.seen[name].at", name) - sent)
            number += 1
            await asyncio.sleep(PAUSE_S)
        results.append(statistics.quantiles(took, n=20)[-1])
    return results


async def _measure(folder: Path, database: PostgresServer) -> tuple[list[float], list[float]]:
    async with running_fleet(folder, database) as fleet, _signed_in(fleet.url) as page:
        sizes = []
        for _ in range(LOADS):
            await page.goto("about:blank")
            session = await page.context.new_cdp_session(page)
            await session.send("Network.clearBrowserCache")
            await page.goto(fleet.url)
            await page.locator("[data-known=true]").wait_for()
            sizes.append(float(await page.evaluate(SIZE)))
        return await _latencies(fleet, page), sizes


async def _measure_many(folder: Path, database: PostgresServer) -> tuple[list[float], list[float]]:
    async with running_fleet(folder, database, MANY_HUBS, MANY_PAUSE_S) as fleet:
        await _fleet_read(fleet)
        async with _signed_in(fleet.url) as page:
            return await _rows_and_scrolls(fleet, page)


async def _fleet_read(fleet: Fleet) -> None:
    """Wait until the API server has read the fleet for its live view, which it does once."""
    while True:
        with suppress(httpx.HTTPStatusError):  # 503 until then
            async with aclosing(messages_of(fleet.client, fleet.url)) as messages:
                async for _, message in messages:
                    if message["kind"] == "ready":
                        return


async def _rows_and_scrolls(fleet: Fleet, page: Any) -> tuple[list[float], list[float]]:
    loads = []
    for _ in range(LOADS):
        await page.goto("about:blank")
        began = time.perf_counter()
        await page.goto(f"{fleet.url}/tunnels?sort=name")
        await page.locator("[data-row]").first.wait_for()
        loads.append(1_000 * (time.perf_counter() - began))
    total = f"{MANY_HUBS * SPOKES:,} tunnels"
    await page.get_by_text(total, exact=True).wait_for()
    jumps = [float(await page.evaluate(JUMP, (it * 0.37) % 1.0)) for it in range(1, SCROLLS + 1)]
    return loads, [statistics.quantiles(jumps[at::5], n=20)[-1] for at in range(5)]


def _can_run() -> bool:
    try:
        from warren_testkit.browser import chromium
    except ImportError:  # playwright
        found = None
    else:
        found = chromium.CHROMIUM
    if found is None or load_page(page_folder()) is None:
        print("  not measured: Chromium is not installed, or the page was not built (`make page`)", file=sys.stderr)
        return False
    return True


def run() -> Iterable[Row]:
    if not _can_run():
        return
    with tempfile.TemporaryDirectory() as folder, postgres_server() as database:
        latencies, sizes = asyncio.run(_measure(Path(folder), database))
    yield absolute(
        "browser_latency", latencies, "ms", better="lower", target=MAX_P95_MS,
        note=f"95th percentile of {CHANGES} changes; 10,000 tunnels, each reported every 10 s; from the publication to the frame",
    )  # fmt: skip
    yield absolute(
        "page_size", sizes, "bytes", better="lower", target=MAX_BYTES, note="compressed, before the fleet is shown"
    )


def run_many() -> Iterable[Row]:
    if not _can_run():
        return
    with tempfile.TemporaryDirectory() as folder, postgres_server() as database:
        loads, scrolls = asyncio.run(_measure_many(Path(folder), database))
    yield absolute(
        "page_first_rows_100000", loads, "ms", better="lower", target=MAX_FIRST_ROWS_MS, note="from the navigation to the first rows"
    )  # fmt: skip
    yield absolute(
        "page_scroll_100000", scrolls, "ms", better="lower", target=MAX_SCROLL_MS, note="from a jump to its rows, 95th percentile"
    )  # fmt: skip


BENCHES = [
    Bench(("browser_latency", "page_size"), run),
    Bench(("page_first_rows_100000", "page_scroll_100000"), run_many),
]
