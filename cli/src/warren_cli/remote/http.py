"""HTTP/1.1 to one server on one connection, by the standard library: a verb that only reads must not wait for its imports.

The connection is kept for the next request. A proxy of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) is used
where the caller allows it.
"""

import http.client
import os
import select
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from warren_cli.errors import CliError

_CHUNK = 65_536  # bytes of a stream that are read at once

ProtocolError = http.client.HTTPException  # not an HTTP response, or an incomplete one
InvalidUrlError = http.client.InvalidURL


class ConnectTimeoutError(TimeoutError):
    """No connection within the limit."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `content` is empty while it is streamed."""

    url: str
    status: int
    reason: str
    content_type: str
    content: bytes

    @property
    def is_error(self) -> bool:
        return self.status >= 400


class HttpClient:
    """One connection, made when it is first needed.

    Its calls raise ConnectTimeoutError, TimeoutError, another OSError (`ssl.SSLError` too), ProtocolError, or InvalidUrlError.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str], limit_s: float, tls: ssl.SSLContext | None, *, use_proxy: bool
    ) -> None:
        self.limit_s = limit_s  # of a connection, and of each wait for bytes
        self._parts = urlsplit(url)
        self._base = url.rstrip("/")
        self._headers = headers
        self._tls = tls
        self._proxy = proxy_for(self._parts) if use_proxy else None
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(
        self, method: str, path: str, query: Mapping[str, Any], content: bytes | None, headers: Mapping[str, str]
    ) -> Response:
        """One request and its whole answer."""
        url, answer = self._send(method, path, query, content, headers)
        try:
            return _response(url, answer, answer.read())
        except BaseException:
            answer.close()
            self.close()
            raise

    @contextmanager
    def stream(self, path: str, query: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator["Stream"]:
        """An answer that is read as it comes; the connection is closed after it."""
        url, answer = self._send("GET", path, query, None, headers)
        try:
            yield Stream(url, answer)
        finally:
            answer.close()  # it holds the socket where the server ends the connection with it
            self.close()

    def _send(
        self, method: str, path: str, query: Mapping[str, Any], content: bytes | None, headers: Mapping[str, str]
    ) -> tuple[str, http.client.HTTPResponse]:
        url = self._base + path + (f"?{_encoded(query)}" if query else "")
        given = {**self._headers, **headers}
        if self._proxy is None or self._tls is not None:
            parts = urlsplit(url)
            target = parts.path + (f"?{parts.query}" if parts.query else "")
        else:
            target = url  # RFC 9112, 3.2.2: a proxy needs the absolute form
            given |= _proxy_headers(self._proxy)
        try:
            connection = self._connected()
            connection.request(method, target, content, given)
            return url, connection.getresponse()
        except BaseException:
            self.close()
            raise

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is not None and _is_usable(self._connection):
            return self._connection
        self.close()
        self._connection = connection = self._new()
        try:
            connection.connect()
        except TimeoutError as error:
            raise ConnectTimeoutError(str(error)) from None
        return connection

    def _new(self) -> http.client.HTTPConnection:
        parts, through = self._parts, self._proxy or self._parts
        host = through.hostname or ""
        if self._tls is None:
            return http.client.HTTPConnection(host, through.port or 80, timeout=self.limit_s)
        port = through.port or (443 if self._proxy is None else 80)
        connection = http.client.HTTPSConnection(host, port, timeout=self.limit_s, context=self._tls)
        if self._proxy is not None:
            connection.set_tunnel(parts.hostname or "", parts.port or 443, _proxy_headers(self._proxy))
        return connection


class Stream:
    """An answer that is read line by line."""

    def __init__(self, url: str, answer: http.client.HTTPResponse) -> None:
        self._url = url
        self._answer = answer

    def response(self) -> Response:
        """All of it, for an error."""
        return _response(self._url, self._answer, self._answer.read() if self.is_error else b"")

    @property
    def is_error(self) -> bool:
        return self._answer.status >= 400

    def lines(self) -> Iterator[str]:
        """The lines, without their ends. Raises ProtocolError for an incomplete response."""
        rest = b""
        while read := self._answer.read1(_CHUNK):
            *whole, rest = (rest + read).split(b"\n")
            for line in whole:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")


def proxy_for(url: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for a URL. Raises CliError for one of a kind that cannot be used."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass  # only where there is one

    proxies = getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or proxy_bypass(url.hostname or ""):
        return None
    proxy = urlsplit(found if "://" in found else f"http://{found}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise CliError(
            f"the environment names a proxy of the kind {proxy.scheme}: use an http:// proxy, or add {url.hostname} to NO_PROXY"
        )
    return proxy


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    from base64 import b64encode

    credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"proxy-authorization": f"Basic {b64encode(credentials.encode()).decode()}"}


def _is_usable(connection: http.client.HTTPConnection) -> bool:
    """Whether the server still holds a connection: what can be read while nothing was asked is its end."""
    held: socket.socket | None = connection.sock
    return held is not None and not select.select([held], [], [], 0)[0]


def _response(url: str, answer: http.client.HTTPResponse, content: bytes) -> Response:
    return Response(url, answer.status, answer.reason, answer.headers.get("content-type", ""), content)


def _encoded(query: Mapping[str, Any]) -> str:
    """Lists are repeated, and booleans are those of JSON."""
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
    return urlencode(given, doseq=True, quote_via=quote)
