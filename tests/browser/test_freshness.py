"""Nothing stale is shown as live: a lost connection, a computer that slept, a server without reports, an ended session, the past."""

import re
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest

from warren_testkit.browser.demo import Demo

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser


def test_a_disconnected_page_shows_no_state(demo: Demo, page: Any) -> None:
    up = page.locator("[data-count=up] [data-state]")
    expect(up).to_have_attribute("data-state", "up")
    tunnel = page.context.new_page()
    tunnel.goto(f"{demo.url}/tunnels/hub%2Bspoke-1")
    expect(tunnel.locator("[data-cause=none]")).to_contain_text("It is up")
    assert tunnel.locator("[data-last-read]").count() == 0
    with demo.suspended("warren_api"):  # noticed after 25 s without a keepalive
        expect(up).to_have_attribute("data-silence", "page", timeout=90_000)
        expect(tunnel.locator("[data-last-read]")).to_contain_text("may no longer hold", timeout=90_000)
        for shown in tunnel.get_by_role("region", name="State"), tunnel.locator("[data-end]").first:
            expect(shown.locator("[data-state]").first).to_have_attribute("data-silence", "page")
        tunnel.close()
        expect(page.get_by_role("alert").filter(has_text="disconnected")).to_be_visible()
        expect(page.locator("[data-state=up]")).to_have_count(0)
    expect(up).to_have_attribute("data-state", "up", timeout=90_000)


def test_a_page_whose_computer_slept_shows_no_state_until_the_server_sends(demo: Demo, page: Any) -> None:
    asleep = Event()

    def live(socket: Any) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda message: None if asleep.is_set() else socket.send(message))

    page.route_web_socket(re.compile("/api/live"), live)
    page.add_init_script("window.slept = 0; const now = Date.now; Date.now = () => now() + window.slept")
    page.reload()
    page.locator("[data-known=true]").wait_for()
    up = page.locator("[data-count=up] [data-state]")
    expect(up).to_have_attribute("data-state", "up")
    asleep.set()
    page.route(re.compile("/api/"), lambda route: route.abort())  # a reply would set the page's clock back
    page.evaluate("window.slept = 3_600_000")  # no timer has run meanwhile
    expect(up).to_have_attribute("data-silence", "page", timeout=20_000)  # the timer of a silent connection has 25 s
    asleep.clear()
    page.unroute_all(behavior="ignoreErrors")
    expect(up).to_have_attribute("data-state", "up")


def test_a_server_without_reports_shows_no_state(demo: Demo, page: Any) -> None:
    up = page.locator("[data-count=up] [data-state]")
    expect(up).to_have_attribute("data-state", "up")
    with demo.suspended("warren_metrics"):  # noticed by the health of the services, void after 10 s more
        expect(up).to_have_attribute("data-silence", "server", timeout=90_000)
        expect(page.locator("[data-not-ready]")).to_contain_text("metrics")
        expect(page.locator("[data-state=up]")).to_have_count(0)
    expect(up).to_have_attribute("data-state", "up", timeout=90_000)


def test_the_fleet_is_followed_where_no_websocket_opens(demo: Demo, page: Any) -> None:
    page.add_init_script(
        "window.WebSocket = class { constructor() { setTimeout(() => this.onclose?.({code: 1006})) } close() {} }"
    )
    with page.expect_request(lambda request: request.url == f"{demo.url}/api/live"):
        page.reload()
    expect(page.locator("[data-known=true] [data-count=up]")).to_contain_text("2")


def test_a_session_whose_token_was_removed_ends_in_words(demo: Demo, page: Any) -> None:
    name = "leaves"
    token = demo.call("POST", "/api/operator-tokens", {"name": name, "role": "viewer"})["token"]
    page.goto("about:blank")
    page.goto(demo.sign_in_link(token))
    page.locator("[data-known=true]").wait_for()
    demo.call("DELETE", f"/api/operator-tokens/{name}")
    page.get_by_role("heading", name="Sign in").wait_for(timeout=90_000)  # the live stream checks every 30 s
    expect(page.get_by_text("session has ended")).to_be_visible()
    assert page.locator("[data-state]").count() == 0


def test_a_page_that_is_older_than_the_server_says_so(demo: Demo, page: Any) -> None:
    page.locator("[data-known=true]").wait_for()
    asked = f"{demo.url}/"

    def newer(route: Any) -> None:
        route.fulfill(headers={"etag": '"another"'}) if route.request.method == "HEAD" else route.continue_()

    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.route(asked, newer)  # as after an update of the server, which ends every session
    page.get_by_label("API token").fill(demo.token)
    page.get_by_role("button", name="Sign in").click()
    page.locator("[data-known=true]").wait_for()
    expect(page.get_by_text("newer version of this page")).to_be_visible()
    with page.expect_navigation():
        page.get_by_role("button", name="Reload").click()


def test_the_past_is_never_mistaken_for_now(demo: Demo, page: Any) -> None:
    expect(page.locator("[data-count=up]")).to_contain_text("2")
    at = (datetime.now(UTC) - timedelta(seconds=2)).isoformat().replace("+00:00", "Z")
    page.goto(f"{demo.url}/?at={at}")
    expect(page.locator("[data-past]")).to_contain_text("not live")
    expect(page.locator("[data-past-count=up]")).to_contain_text("2")
    expect(page.locator("[data-past-tunnel]")).to_have_count(2)
    assert page.locator("[data-count]").count() == 0
    page.get_by_role("button", name="Back to now").click()
    expect(page.locator("[data-count=up]")).to_contain_text("2")
    page.goto(f"{demo.url}/?at=2999-01-01T00:00:00Z")
    expect(page.get_by_role("alert").filter(has_text="at:")).to_contain_text("future")
