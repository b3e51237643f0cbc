"""The web page's files: what is served, with which headers, and what is said where it was not built."""

import gzip
from pathlib import Path

import httpx
import pytest

from warren_api.app import build_app
from warren_api.page import VIEWS, load_page
from warren_testkit.api import FakeBus
from warren_testkit.api.client import problem

SCRIPT = b"export const answer = 42;" * 40


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A page as the build leaves it."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>Warren</title>")
    (tmp_path / "icon.svg").write_text("<svg/>")
    (tmp_path / "assets" / "main-1a2b.js").write_bytes(SCRIPT)
    (tmp_path / "assets" / "main-1a2b.js.gz").write_bytes(gzip.compress(SCRIPT))
    return tmp_path


def client(folder: Path) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=build_app(FakeBus(), page=load_page(folder)))
    return httpx.AsyncClient(transport=transport, base_url="https://api")


async def test_every_view_is_the_one_page_under_a_strict_policy(built: Path) -> None:
    async with client(built) as browser:
        for path in ("/", *(f"/{view}" for view in VIEWS), "/tunnels/hub%2Bspoke-1", "/policies/branches"):
            found = await browser.get(path)
            assert found.status_code == 200, path
            assert found.headers["content-type"].startswith("text/html")
            policy = dict(
                part.strip().partition(" ")[::2] for part in found.headers["content-security-policy"].split(";")
            )
            assert policy["default-src"] == "'none'"
            assert policy["frame-ancestors"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert "unsafe" not in found.headers["content-security-policy"]
            assert found.headers["x-content-type-options"] == "nosniff"
            assert found.headers["referrer-policy"] == "no-referrer"
            assert found.headers["cache-control"] == "no-cache"
        unchanged = await browser.get("/", headers={"if-none-match": found.headers["etag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert (await browser.head("/")).headers["etag"] == found.headers["etag"]


async def test_assets_are_compressed_and_kept_for_ever(built: Path) -> None:
    async with client(built) as browser:
        packed = await browser.get("/assets/main-1a2b.js")
        assert (packed.headers["content-encoding"], packed.content) == ("gzip", SCRIPT)
        assert "immutable" in packed.headers["cache-control"]
        assert "javascript" in packed.headers["content-type"]
        plain = await browser.get("/assets/main-1a2b.js", headers={"accept-encoding": "identity"})
        assert ("content-encoding" in plain.headers, plain.content) == (False, SCRIPT)
        assert (await browser.get("/icon.svg")).headers["content-type"].startswith("image/svg+xml")


@pytest.mark.parametrize(
    "path",
    ["/assets/none.js", "/assets/..%2Findex.html", "/assets/main-1a2b.js.gz", "/index.html", "/etc/passwd", "/api/x"],
)
async def test_nothing_else_is_served(built: Path, path: str) -> None:
    async with client(built) as browser:
        assert (await browser.get(path)).status_code == 404


async def test_the_api_keeps_its_own_policy(built: Path) -> None:
    async with client(built) as browser:
        found = await browser.get("/api/health/live")
        assert found.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        refused = await browser.post("/")
        problem(refused, 405, "method-not-allowed")


async def test_without_a_build_the_page_says_how_to_get_it(tmp_path: Path) -> None:
    assert load_page(tmp_path) is None
    async with client(tmp_path) as browser:
        for path in ("/", "/tunnels", "/assets/main.js", "/icon.svg"):
            problem(await browser.get(path), 404, "page-missing")
        assert "make web" in (await browser.get("/")).json()["detail"]


def test_page_and_server_know_the_same_paths() -> None:
    routes = (Path(__file__).parents[3] / "web/src/lib/routes.ts").read_text()
    stated = routes.partition("VIEWS = [")[2].partition("]")[0]
    assert [word.strip().strip("'") for word in stated.split(",")] == ["", *VIEWS]
