"""Nothing that the fleet, an agent or another operator writes becomes a part of the page."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from warren_testkit.browser.demo import Demo
from warren_testkit.browser.views import VIEWS, show

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

ATTACK = "\u202e\"'><img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>{{7*7}}${7*7}javascript:0"
# Words that the page looks up, and what it needs to go on. All others are texts of somebody.
KEPT = {
    "action", "cause", "cursor", "effect", "interruption", "kind", "mode", "next_after", "next_before", "presence", "previous", "reason",
    "role", "state", "type",
}  # fmt: skip
TIME = re.compile(r"\d{4}-\d\d-\d\dT.*")
DETAILS = ("tunnel", "peer", "policy", "policy-history")


def attacked(value: Any, field: str = "") -> Any:
    """A reply whose every text is an attack."""
    if isinstance(value, dict):
        return {key: attacked(it, key) for key, it in value.items()}
    if isinstance(value, list):
        return [attacked(it, field) for it in value]
    if isinstance(value, str) and field not in KEPT and not TIME.fullmatch(value):
        return value + ATTACK
    return value


def attack(page: Any) -> None:
    """Every reply and every live message from now on; but for the session, the schemas, and what names the entry that is shown."""

    def reply(route: Any) -> None:
        response = route.fetch()
        if "json" not in response.headers.get("content-type", ""):
            route.fulfill(response=response)
            return
        route.fulfill(response=response, body=json.dumps(attacked(response.json())))

    def live(socket: Any) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda message: socket.send(json.dumps(attacked(json.loads(message)))))

    page.route(re.compile(r"/api/(?!session|openapi|live)"), reply)
    page.route_web_socket(re.compile(r"/api/live"), live)


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "sign-in"])
def test_no_text_of_a_reply_becomes_more_than_text(demo: Demo, page: Any, view: str) -> None:
    attack(page)
    # A gateway is found by its name in the listing, which is another one now.
    page.goto(f"{demo.url}{VIEWS[view][0]}{quote(ATTACK, safe='') if view == 'peer' else ''}")
    if view in DETAILS:
        page.get_by_role("heading").first.wait_for()
    else:
        show(page, demo.url, view)
    expect(page.locator("main")).to_contain_text("onerror")
    assert page.title() != "owned"
    assert page.evaluate("document.querySelectorAll('img[src=x], main script, [onerror]').length") == 0
    links = page.evaluate(
        "[...document.querySelectorAll('a')].map((it) => new URL(it.getAttribute('href'), location.href).protocol)"
    )
    assert set(links) <= {"https:"}
    page.unroute_all(behavior="ignoreErrors")


def test_what_a_gateway_says_turns_no_other_text_around(demo: Demo, page: Any) -> None:
    show(page, demo.url, "tunnels")
    link = page.locator("[data-row] a").first
    assert link.evaluate("(it) => getComputedStyle(it).unicodeBidi") == "isolate"
