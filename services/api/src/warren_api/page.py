"""The web page: files that `make web` builds, read once, served with a policy that lets them load nothing from elsewhere.

`web/` is the source. The build ends in `share/warren/page` of the Python environment, and so does an installation of this package's
wheel. Next to each file that shrinks is the same one compressed (`.gz`).
"""

import mimetypes
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warren_api.errors import PageMissingError

INDEX = "index.html"
VIEWS = ("sign-in", "map", "tunnels", "peers", "policies", "tokens", "audit")
"""First segments of the paths that the page itself knows; `web/src/lib/routes.ts` has the same ones."""

# Content Security Policy 3: scripts and styles of this server only, none inline, none by eval; no frame may hold the page, and no form
# is sent anywhere. Only Svelte's own templates become HTML (Trusted Types), so that no value of the fleet can become a script.
_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'", "base-uri 'none'",
        "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types svelte-trusted-html",
    )
)  # fmt: skip
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "vary": "accept-encoding",
}
_FOREVER = {
    "cache-control": "public, max-age=31536000, immutable"
}  # the name of an asset holds the hash of its content


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page."""

    content: bytes
    compressed: bytes | None  # gzip
    media_type: str


@dataclass(frozen=True, slots=True)
class PageFiles:
    """The files of the page by their paths (`index.html`, `assets/main-1a2b.js`), and a tag that names this build."""

    files: Mapping[str, Asset]
    etag: str


def page_folder() -> Path:
    """Where the page of this installation is, if it was built."""
    return Path(sys.prefix) / "share" / "warren" / "page"


def load_page(folder: Path) -> PageFiles | None:
    """Read the page; None: it was not built."""
    index = folder / INDEX
    if not index.is_file():
        return None
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".gz"]
    files = {path.relative_to(folder).as_posix(): _asset(path) for path in paths}
    return PageFiles(files, f'"{sha256(index.read_bytes()).hexdigest()[:16]}"')


def _asset(path: Path) -> Asset:
    packed = path.with_name(f"{path.name}.gz")
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Asset(path.read_bytes(), packed.read_bytes() if packed.is_file() else None, media_type)


def routes(page: PageFiles | None) -> list[Route]:
    """The routes of the page; without one, `/` says how to get it."""

    async def index(request: Request) -> Response:
        if page is None:
            raise PageMissingError
        if request.headers.get("if-none-match") == page.etag:
            return Response(status_code=304, headers={**_HEADERS, "etag": page.etag, "cache-control": "no-cache"})
        return _response(request, page.files[INDEX], {"etag": page.etag, "cache-control": "no-cache"})

    async def asset(request: Request) -> Response:
        found = page.files.get(f"assets/{request.path_params['name']}") if page is not None else None
        if found is None:
            raise PageMissingError(
                "the page has no such file: reload it, as the server has another version of it by now"
            )
        return _response(request, found, _FOREVER)

    async def icon(request: Request) -> Response:
        if page is None or (found := page.files.get("icon.svg")) is None:
            raise PageMissingError
        return _response(request, found, {"cache-control": "max-age=86400"})

    views = [Route(f"/{view}{rest}", index, methods=["GET"]) for view in VIEWS for rest in ("", "/{rest:path}")]
    return [
        Route("/", index, methods=["GET"]), *views, Route("/icon.svg", icon, methods=["GET"]),
        Route("/assets/{name}", asset, methods=["GET"]),
    ]  # fmt: skip


def _response(request: Request, asset: Asset, headers: Mapping[str, str]) -> Response:
    packed = asset.compressed if "gzip" in request.headers.get("accept-encoding", "") else None
    encoding = {"content-encoding": "gzip"} if packed is not None else {}
    content = packed if packed is not None else asset.content
    return Response(content, headers={**_HEADERS, **headers, **encoding}, media_type=asset.media_type)
