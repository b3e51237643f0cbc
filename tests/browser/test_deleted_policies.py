"""A deleted policy on the page: found, rolled back, and the edit of one that somebody else deletes."""

from collections.abc import Iterator
from typing import Any

import pytest

from warren_testkit.browser.demo import Demo
from warren_testkit.browser.views import paste

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

POLICY = {"id": "gone", "enabled": False, "topology": {"kind": "mesh", "members": ["tag=branch"]}}
TEXT = "id: gone\nenabled: false\ndescription: mine\ntopology: {kind: mesh, members: [tag=branch]}\n"


@pytest.fixture
def first(demo: Demo) -> Iterator[int]:
    """The first of two versions of a policy, of which nothing is left stored."""
    demo.call("POST", "/api/policies", POLICY | {"description": "first"})
    second = demo.call("PUT", "/api/policies/gone", POLICY | {"description": "second"})["versions"]["gone"]
    yield second - 1
    if any(it["policy"]["id"] == "gone" for it in demo.call("GET", "/api/policies")["policies"]):
        demo.call("DELETE", "/api/policies/gone")


def test_a_deleted_policy_is_found_and_rolled_back(demo: Demo, page: Any, first: int) -> None:
    page.goto(f"{demo.url}/policies/gone")
    page.locator(".cm-line").first.wait_for()
    demo.call("DELETE", "/api/policies/gone")
    deleted = page.locator("[data-deleted]")  # while it is open
    expect(deleted).to_contain_text("deleted by admin")
    page.goto(f"{demo.url}/policies")
    row = page.get_by_role("table", name="Deleted policies").locator("[data-row=gone]")
    expect(row).to_contain_text(str(first + 1))
    row.get_by_role("link").click()
    expect(deleted).to_contain_text(f"its last version was {first + 1}")
    assert page.get_by_role("textbox").count() == 0
    page.locator(f"[data-version='{first}'] button").click()
    expect(page.locator("[data-effects]")).to_be_visible()
    label = f"Roll back to version {first}"
    page.get_by_role("button", name=label).click()
    page.get_by_role("dialog").get_by_role("button", name=label).click()
    expect(page.get_by_text(f"version {first + 2}, by admin")).to_be_visible()
    assert demo.call("GET", "/api/policies/gone")["policy"]["description"] == "first"


def test_a_rollback_of_a_deleted_policy_replaces_none_that_was_created_meanwhile(
    demo: Demo, page: Any, first: int
) -> None:
    demo.call("DELETE", "/api/policies/gone")
    page.route("**/api/live", lambda route: route.abort())  # the page does not learn of the other's policy
    page.route_web_socket("**/api/live", lambda socket: socket.close())
    page.goto(f"{demo.url}/policies/gone")
    page.locator(f"[data-version='{first}'] button").click()
    label = f"Roll back to version {first}"
    page.get_by_role("button", name=label).click()
    demo.call("POST", "/api/policies", POLICY | {"description": "of another"})
    page.get_by_role("dialog").get_by_role("button", name=label).click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("exist")
    assert demo.call("GET", "/api/policies/gone")["policy"]["description"] == "of another"


def test_the_author_of_an_edit_decides_what_follows_from_a_deletion(demo: Demo, page: Any, first: int) -> None:
    page.goto(f"{demo.url}/policies/gone")
    paste(page.get_by_role("textbox", name="Policy as YAML"), TEXT)
    page.locator("[data-effects]").wait_for()
    demo.call("DELETE", "/api/policies/gone")
    deletion = page.locator("[data-deletion]")
    expect(deletion).to_contain_text(f"admin has deleted the policy since you began with version {first + 1}")
    expect(page.get_by_role("button", name="Apply")).to_be_disabled()
    deletion.get_by_role("button", name="Create it again from mine").click()
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("Stored as revision")).to_be_visible()
    stored = demo.call("GET", "/api/policies/gone")["policy"]
    assert (stored["version"], stored["description"]) == (first + 2, "mine")
    paste(page.get_by_role("textbox", name="Policy as YAML"), TEXT.replace("mine", "lost"))
    demo.call("DELETE", "/api/policies/gone")
    deletion.get_by_role("button", name="Discard mine").click()
    expect(page.locator("[data-deleted]")).to_be_visible()
