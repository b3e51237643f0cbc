"""The web page in Chromium on a real `warren up`: from sign-in to a stored policy. `make test-browser` has everything else."""

from pathlib import Path

import pytest

from warren_api.page import load_page, page_folder
from warren_testkit.browser.server import PageServer
from warren_testkit.browser.views import paste
from warren_testkit.up import running_up

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make page")
from warren_testkit.browser import chromium  # noqa: E402 - needs playwright

POLICY = "id: lab\ndescription: made in the browser\ntopology:\n  kind: mesh\n  members: [tag={tag}]\n"

pytestmark = [
    pytest.mark.skipif(chromium.CHROMIUM is None, reason="Chromium is not installed: deploy/debian/setup.sh --tests"),
    pytest.mark.skipif(load_page(page_folder()) is None, reason="the page was not built: npm reaches no registry"),
]


def test_an_operator_signs_in_sees_a_finding_plans_and_applies(tmp_path: Path) -> None:
    with running_up(tmp_path) as up, sync_api.sync_playwright() as playwright:
        token_file = Path(up.info["token_file"])
        server = PageServer(up.info["url"], token_file.read_text().strip(), token_file)
        server.call("POST", "/api/join-tokens", {"tags": ["lab"]})  # makes the tag known
        browser = chromium.launch(playwright)
        with chromium.context_of(browser) as context, chromium.watched(context, server.url) as page:
            page.goto(server.sign_in_link(server.operator_token("operator")))
            page.locator("[data-known=true] [data-count=up]").wait_for()  # the live stream has sent its snapshot
            assert "code" not in page.url
            page.goto(f"{server.url}/policies/%2Bnew")
            editor = page.get_by_role("textbox", name="Policy as YAML")
            paste(editor, POLICY.format(tag="brnch"))
            sync_api.expect(page.locator("[data-finding]").first).to_contain_text("line 5")
            sync_api.expect(page.get_by_role("button", name="Apply")).to_be_disabled()
            paste(editor, POLICY.format(tag="lab"))
            sync_api.expect(page.get_by_role("button", name="Apply")).to_be_enabled()
            page.get_by_role("button", name="Apply").click()
            page.wait_for_url("**/policies/lab")
        with chromium.context_of(browser) as context, chromium.watched(context, server.url) as page:
            page.goto(server.sign_in_link(server.operator_token("admin", "lab", "branch")))
            sync_api.expect(page.locator("[data-scope]")).to_have_text("scope: branch, lab")
            page.locator("[data-known=true] [data-count=up]").wait_for()  # a snapshot without a cursor is complete, too
            sync_api.expect(page.get_by_role("link", name="Audit")).to_be_visible()
            for hidden in ("Policies", "Tokens"):
                sync_api.expect(page.get_by_role("link", name=hidden)).to_have_count(0)
        browser.close()
        stored = server.call("GET", "/api/policies/lab")["policy"]
        assert (stored["version"], stored["description"]) == (1, "made in the browser")
