"""The cookie of a session (RFC 6265bis, 4.1.3.2: the prefix `__Host-`), and where a request with it may come from."""

from starlette.requests import HTTPConnection
from starlette.responses import Response

from warren_api.errors import ForeignOriginError

SECURE_NAME = "__Host-warren"  # a browser accepts it by HTTPS only, for this host only, and sends it to this host only
CLEARTEXT_NAME = "warren"  # by HTTP, which is served on the loopback only
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1


def secret_of(connection: HTTPConnection) -> str | None:
    """The session's secret in a request; None: it has none."""
    return connection.cookies.get(_name(connection))


def set_cookie(connection: HTTPConnection, response: Response, secret: str, seconds: float) -> None:
    """Give the session's secret to the browser, which shows it to no script and sends it with no request of another site."""
    response.set_cookie(
        _name(connection), secret, max_age=int(seconds), path="/", secure=_is_secure(connection), httponly=True,
        samesite="strict",
    )  # fmt: skip


def clear_cookie(connection: HTTPConnection, response: Response) -> None:
    """Have the browser forget the session."""
    response.delete_cookie(_name(connection), path="/", secure=_is_secure(connection), httponly=True, samesite="strict")


def require_own_origin(connection: HTTPConnection) -> None:
    """Refuse a change, or a WebSocket, that a page of another origin asks for (RFC 6454, 7).

    Raises ForeignOriginError, also without the header: browsers send it with every such request.
    """
    if connection.scope["type"] == "http" and connection.scope["method"] in SAFE_METHODS:
        return
    scheme = {"ws": "http", "wss": "https"}.get(connection.url.scheme, connection.url.scheme)
    own = f"{scheme}://{connection.headers.get('host', '')}"
    if (origin := connection.headers.get("origin", "")) != own:
        raise ForeignOriginError(
            f"the request comes from {origin[:128] or 'no origin'}, and this is {own[:128]}: with a proxy in between, name it in "
            "WARREN_TRUSTED_PROXIES, and have it pass on Host and X-Forwarded-Proto"
        )


def _is_secure(connection: HTTPConnection) -> bool:
    return connection.url.scheme in ("https", "wss")


def _name(connection: HTTPConnection) -> str:
    return SECURE_NAME if _is_secure(connection) else CLEARTEXT_NAME
