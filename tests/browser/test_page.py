"""The page itself: accessibility in both themes, roles, hostile content, two editors, a phone."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from warren_testkit.browser.demo import Demo
from warren_testkit.browser.views import THEMES, VIEWS, paste, show

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

SCRIPT = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
LAB = {
    "id": "lab", "enabled": False, "description": SCRIPT, "name": SCRIPT,
    "topology": {"kind": "mesh", "members": ["tag=lab"]},
}  # fmt: skip


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(demo: Demo, page: Any, axe: str, view: str, theme: str) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    show(page, demo.url, view)
    # In an isolated world, as a browser extension runs: the page's own policy stays as it is.
    page.context.new_cdp_session(page).send("Page.setBypassCSP", {"enabled": True})
    page.reload()
    page.locator(VIEWS[view][1]).first.wait_for()
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        (it["id"], it["impact"], [node["html"][:200] for node in it["nodes"]])
        for it in found["violations"] if it["impact"] in ("serious", "critical")
    ]  # fmt: skip
    assert serious == []


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "sign-in"])
def test_a_view_fits_a_phone(demo: Demo, page: Any, view: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    show(page, demo.url, view)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, (
        page.evaluate(
            "[...document.querySelectorAll('main *')].filter((it) => it.getBoundingClientRect().right > innerWidth)"
            ".slice(0, 5).map((it) => it.outerHTML.slice(0, 200))"
        )
    )


def test_a_state_on_a_phone_has_its_age_and_its_source(demo: Demo, page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    show(page, demo.url, "tunnels")
    state = page.locator("[data-row='hub+spoke-1']").get_by_role("cell").nth(1)
    expect(state).to_contain_text(re.compile("up.* s ago, from hub and spoke-1"))
    assert state.evaluate("(cell) => cell.scrollHeight <= cell.parentElement.clientHeight")


def test_the_tunnels_are_reached_sorted_and_opened_by_keys(demo: Demo, page: Any) -> None:
    show(page, demo.url, "tunnels")
    page.keyboard.press("/")
    page.keyboard.type("spoke-1")
    expect(page.locator("[data-row]")).to_have_count(1)
    header = page.get_by_role("columnheader", name="Tunnel")
    while header.evaluate("(it) => !it.contains(document.activeElement)"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(header).to_have_attribute("aria-sort", "ascending")
    page.locator("[data-row] a").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="hub+spoke-1", exact=True).wait_for()
    assert page.evaluate("document.activeElement.id") == "main"  # and Tab goes on in the view
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


@pytest.fixture
def lab_tag(demo: Demo) -> Iterator[None]:
    """A join token makes the tag known; its note is hostile, too."""
    token = demo.call("POST", "/api/join-tokens", {"note": SCRIPT, "tags": ["lab"]})
    yield
    demo.call("DELETE", f"/api/join-tokens/{token['id']}")


@pytest.mark.usefixtures("lab_tag")
def test_hostile_content_is_text(demo: Demo, page: Any) -> None:
    demo.call("POST", "/api/policies", LAB)
    try:
        for path in ("/policies", "/policies/lab", "/policies/lab?tab=history", "/tokens", "/audit"):
            page.goto(f"{demo.url}{path}")
            page.get_by_text("onerror").first.wait_for() if path in ("/policies", "/tokens") else None
            page.locator("[data-row]").first.wait_for() if path == "/audit" else None
            assert page.title() != "owned"
            assert page.locator("img[src=x]").count() == 0
        for path in (
            "/tunnels?q=%3Cscript%3Edocument.title%3D%27owned%27%3C%2Fscript%3E",
            "/peers/%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D'owned'%22%3E",
            "/tunnels/%22%3E%3Cscript%3Edocument.title%3D'owned'%3C%2Fscript%3E",
            "/nowhere/%3Csvg%20onload%3Ddocument.title%3D'owned'%3E",
        ):
            page.goto(f"{demo.url}{path}")
            assert page.title() != "owned"
    finally:
        demo.call("DELETE", "/api/policies/lab")


@pytest.mark.parametrize(
    "target", ["javascript:document.title='owned'", "https://evil.example/", "//evil.example/", "/\\evil.example"]
)
def test_sign_in_leads_to_no_other_site(demo: Demo, page: Any, target: str) -> None:
    code = demo.sign_in_link().partition("#")[2]
    page.goto(f"{demo.url}/sign-in?to={httpx.QueryParams({'x': target})['x']}#{code}")
    page.get_by_role("heading", name="Fleet").wait_for()
    assert page.url.startswith(f"{demo.url}/")


def test_a_wrong_token_and_a_used_link_are_refused_in_words(demo: Demo, page: Any) -> None:
    link = demo.sign_in_link()
    page.goto(link)
    page.get_by_role("heading", name="Fleet").wait_for()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("used already")
    page.get_by_label("API token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("Unauthorized")
    page.get_by_label("API token").fill(demo.token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Fleet").wait_for()
    assert demo.token not in page.content()


def test_a_viewer_sees_the_same_page_without_buttons(demo: Demo, page: Any) -> None:
    page.goto("about:blank")
    page.goto(demo.sign_in_link(demo.operator_token("viewer")))
    expect(page.locator("[data-count=up]")).to_be_visible()
    assert page.get_by_role("link", name="Tokens").count() == 0
    page.goto(f"{demo.url}/policies/branches")
    page.locator(".cm-line").first.wait_for()
    for name in ("Apply", "Delete", "Check now"):
        assert page.get_by_role("button", name=name).count() == 0
    page.goto(f"{demo.url}/peers/hub")
    page.get_by_text("Enrolled").wait_for()
    assert page.get_by_role("button", name="Revoke").count() == 0
    page.goto(f"{demo.url}/tunnels/hub%2Bspoke-1")
    page.locator("[data-sa=net] [data-sa-end=hub]").first.wait_for()
    assert page.locator("[data-orders]").count() == 0


def test_a_user_with_a_scope_sees_that_part_of_the_fleet(demo: Demo, page: Any) -> None:
    peers = demo.call("GET", "/api/peers")["peers"]
    branch = next(it for it in peers if "branch" in it["tags"])
    page.goto("about:blank")
    page.goto(demo.sign_in_link(demo.operator_token("operator", *branch["tags"])))
    expect(page.locator("[data-scope]")).to_contain_text(branch["tags"][0])
    page.goto(f"{demo.url}/peers")
    for peer in peers:
        seen = not set(peer["tags"]).isdisjoint(branch["tags"])
        expect(page.get_by_role("link", name=peer["peer"], exact=True)).to_have_count(1 if seen else 0)
    tunnel = next(it for it in demo.call("GET", "/api/tunnels")["tunnels"] if branch["peer"] in it["peers"])
    page.goto(f"{demo.url}/tunnels/{tunnel['name'].replace('+', '%2B')}")
    for peer in tunnel["peers"]:
        seen = any(it["peer"] == peer and not set(it["tags"]).isdisjoint(branch["tags"]) for it in peers)
        end = page.locator(f"[data-end={peer}]")
        expect(end.get_by_role("heading", name=peer)).to_be_visible()
        expect(end.get_by_role("link", name=peer)).to_have_count(1 if seen else 0)
        expect(page.locator(f"[data-orders={peer}]").first).to_be_visible(visible=seen)


def test_filter_and_sorting_are_in_the_address_bar(demo: Demo, page: Any) -> None:
    page.goto(f"{demo.url}/tunnels")
    page.locator("[data-row]").first.wait_for()
    page.get_by_label("Filter tunnels").fill("peer:spoke-1 state:up")
    expect(page.locator("[data-row]")).to_have_count(1)
    page.get_by_role("columnheader", name="Tunnel").get_by_role("button").click()
    page.wait_for_url(lambda url: "q=peer%3Aspoke-1" in url and "sort=" in url, wait_until="commit")
    page.reload()
    expect(page.locator("[data-row]")).to_have_count(1)
    page.get_by_label("Filter tunnels").fill("stat:up")
    expect(page.locator("#query-errors")).to_contain_text("unknown field")
    with page.expect_download() as started:
        page.get_by_role("button", name="CSV").click()
    assert b"hub+spoke-1" in started.value.path().read_bytes()


@pytest.mark.usefixtures("lab_tag")
def test_the_second_of_two_editors_sees_the_difference_and_decides(demo: Demo, page: Any) -> None:
    created = demo.call("POST", "/api/policies", LAB | {"description": "mine", "name": ""})
    first = created["versions"]["lab"]
    try:
        page.goto(f"{demo.url}/policies/lab")
        editor = page.get_by_role("textbox", name="Policy as YAML")
        paste(
            editor,
            "id: lab\ndescription: mine\nenabled: false\npriority: 7\ntopology: {kind: mesh, members: [tag=lab]}\n",
        )
        page.locator("[data-effects]").wait_for()
        demo.call("PUT", "/api/policies/lab", LAB | {"description": "theirs", "name": ""})
        conflict = page.locator("[data-conflict]")
        expect(conflict).to_contain_text(f"version {first + 1}")
        expect(conflict).to_contain_text("theirs")
        expect(page.get_by_role("button", name="Apply")).to_be_disabled()
        assert demo.call("GET", "/api/policies/lab")["policy"]["description"] == "theirs"
        page.get_by_role("button", name="Go on with mine").click()
        expect(page.get_by_role("button", name="Apply")).to_be_enabled()
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_text("Stored as revision")).to_be_visible()
        stored = demo.call("GET", "/api/policies/lab")["policy"]
        assert (stored["version"], stored["description"], stored["priority"]) == (first + 2, "mine", 7)
    finally:
        demo.call("DELETE", "/api/policies/lab")


def test_a_secret_is_shown_once(demo: Demo, page: Any) -> None:
    page.goto(f"{demo.url}/tokens")
    section = page.get_by_role("region", name="API tokens", exact=True)
    section.get_by_label("Name").fill("once")
    section.get_by_role("button", name="Create").click()
    secret = page.locator("[data-secret]").inner_text()
    assert len(secret) > 20
    page.get_by_role("button", name="Done").click()
    assert secret not in page.content()
    section.get_by_role("row", name="once").get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(section.get_by_role("row", name="once")).to_have_count(0)


def test_the_audit_log_of_policies_is_shown_and_verified(demo: Demo, page: Any) -> None:
    page.set_viewport_size({"width": 1280, "height": 6_000})  # rows of other tests came after it
    page.goto(f"{demo.url}/audit")
    page.get_by_role("tab", name="Policies").click()
    expect(page.locator("[data-row]", has_text="created branches (version 1)")).to_be_visible()
    page.get_by_role("button", name="Verify the hash chain").click()
    expect(page.locator("[data-verified=true]")).to_contain_text("fit")
    damaged = {"ok": False, "rows": 3, "hash": "0" * 64, "broken_at": 2, "reason": "its hash is another one"}
    page.route("**/api/audit/verification", lambda route: route.fulfill(json=damaged))
    page.get_by_role("button", name="Verify the hash chain").click()
    expect(page.locator("[data-verified=false]")).to_have_text(
        re.compile("Row 2 does not fit: its hash is another one")
    )
    expect(page.get_by_role("status").and_(page.locator("[data-verified]"))).to_have_count(1)


# How many pixels of a canvas have the colour that a class has in the theme.
INK = """([canvas, name]) => {
  const probe = document.querySelector(`[data-traffic] .${name}`)
  const wanted = getComputedStyle(probe).color.match(/[0-9]+/g).map(Number)
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
  let found = 0
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] === 255 && wanted.every((it, part) => Math.abs(it - data[at + part]) < 8)) found += 1
  }
  return found
}"""
LOADED = (
    "() => performance.getEntriesByType('resource').map((it) => it.name).filter((it) => /minutes-.*js/.test(it)).length"
)


def test_a_tunnel_shows_its_traffic_of_both_ends(demo: Demo, page: Any) -> None:
    demo.ping("spoke-1", "-c", "3")
    page.locator("[data-known=true]").wait_for()
    assert page.evaluate(LOADED) == 0  # uPlot comes with the tunnel's view
    page.goto(f"{demo.url}/tunnels/hub%2Bspoke-1")
    charts = page.locator("[data-traffic]").get_by_role("slider")
    expect(charts).to_have_count(2)
    expect(charts.first).to_have_accessible_name(
        re.compile("^Traffic at hub in each minute of the last hour: .* in, .* out$")
    )
    canvas = charts.first.locator("canvas")
    for theme in THEMES:
        page.get_by_label("Theme").select_option(theme)
        page.wait_for_function(f"(args) => ({INK})(args) > 0", arg=[canvas.element_handle(), "text-accent"])
    assert page.evaluate(LOADED) == 1
    for key, said in (("End", "until now"), ("Home", "no report")):  # the demo is younger than an hour
        charts.first.press(key)
        expect(charts.first).to_have_attribute("aria-valuetext", re.compile(said))
        expect(page.locator("[data-readout]", has_text=said)).to_have_count(2)  # the same minute at both ends
    page.get_by_text("As a table").first.click()
    table = page.get_by_role("region", name="Traffic at hub by minutes")
    expect(table.get_by_role("row")).to_have_count(61)
    expect(table.get_by_role("row").nth(1)).to_contain_text("until now")


def test_an_sa_of_both_ends_is_one_row(demo: Demo, page: Any) -> None:
    page.goto(f"{demo.url}/tunnels/hub%2Bspoke-2")
    for end, other in (("hub", "spoke-2"), ("spoke-2", "hub")):
        expect(page.locator(f"[data-sa=ike] [data-sa-end={end}]")).to_contain_text("aes256gcm16-prfsha384-ecp384")
        children = demo.call("GET", "/api/tunnels/hub%2Bspoke-2")["ends"][end]["link"]["children"]
        row = page.locator("[data-sa=net]", has_text=children[0]["spi_in"])
        expect(row.locator(f"[data-sa-end={end}]")).to_contain_text(f"{children[0]['spi_in']} in")
        expect(row.locator(f"[data-sa-end={other}]")).to_contain_text(f"{children[0]['spi_in']} out")
    expect(page.get_by_role("button", name="Rekey IKE_SA at hub")).to_be_visible()
    expect(page.get_by_role("button", name="Restart IKE_SA at hub")).to_be_visible()
