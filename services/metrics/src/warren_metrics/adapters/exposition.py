"""Serve `/metrics` on the event loop, with limits: a client that sends nothing, or reads nothing, costs one of few connections.

prometheus_client's own server has a thread for each connection and no time-outs. This one answers one request per connection, as
scrapers need it. The parts of a scrape are compressed already: a client that does not accept gzip gets them expanded one by one.
"""

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from warren_bus.errors import InvalidSettingError
from warren_metrics.adapters.gzip_parts import Part, assemble
from warren_service import tls_listener
from warren_service.server_certificate import ServerCertificate

REQUEST_TIMEOUT = 5.0  # s for a whole request
REPLY_TIMEOUT = 30.0  # s for a reply: the scrape of a large fleet over a slow link
MAX_REQUEST = 8_192  # bytes of a request with its headers
MAX_CONNECTIONS = 16  # Prometheus opens one, or one each of a pair; further ones are closed at once
_REQUEST = re.compile(r"(GET|HEAD) (/metrics)(\?\S*)? HTTP/1\.[01]")


_GZIP = re.compile(r"(?:^|,)\s*(?:x-)?gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[0-9.]+\s*)?(?=,|$)")


class Scraper(Protocol):
    """Where scrapes come from."""

    async def scrape(self, accept: str) -> tuple[str, list[Part]]:
        """The content type by the Accept header, and the exposition."""


class Exposition:
    """`GET /metrics`. With a token, only `Authorization: Bearer <token>` is answered."""

    def __init__(self, scraper: Scraper, token: str = "") -> None:
        self._scraper = scraper
        self._token = token.encode()
        self._open = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self._open >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                request = await reader.readuntil(b"\r\n\r\n")
            reply = await self._reply(request.decode("latin-1"))
            async with asyncio.timeout(REPLY_TIMEOUT):
                for piece in reply:
                    writer.write(piece)
                    await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the connection is closed below
        finally:
            self._open -= 1
            writer.transport.abort()

    async def _reply(self, request: str) -> Iterator[bytes]:
        line, *fields = request.split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        asked = _REQUEST.fullmatch(line)
        if asked is None:
            return _response(HTTPStatus.NOT_FOUND, {}, b"GET /metrics\n")
        given = headers.get("authorization", "").removeprefix("Bearer ").encode()
        if self._token and not hmac.compare_digest(given, self._token):
            return _response(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"}, b"a bearer token is required\n")
        content_type, parts = await self._scraper.scrape(headers.get("accept", ""))
        described = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        with_body = asked[1] == "GET"
        if _GZIP.search(headers.get("accept-encoding", "").lower()):
            body = await asyncio.to_thread(assemble, parts)
            return _response(HTTPStatus.OK, described | {"Content-Encoding": "gzip"}, body, with_body)
        return _expanded(described, parts, with_body)


def _response(
    status: HTTPStatus, headers: dict[str, str], body: bytes, with_body: bool = True
) -> Iterator[bytes]:  # fmt: skip
    yield _head(status, headers, len(body))
    if with_body:
        yield body


def _expanded(headers: dict[str, str], parts: list[Part], with_body: bool) -> Iterator[bytes]:
    yield _head(HTTPStatus.OK, headers, sum(part.size for part in parts))
    if with_body:
        yield from (part.plain() for part in parts)


def _head(status: HTTPStatus, headers: dict[str, str], size: int) -> bytes:
    fields = {**headers, "Content-Length": str(size), "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n".encode()


def read_token(path: Path | None) -> str:
    """The token of a file; empty without one. Raises InvalidSettingError."""
    if path is None:
        return ""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettingError({"WARREN_METRICS_TOKEN_FILE": f"is invalid: {error}"}) from None
    if not token:
        raise InvalidSettingError({"WARREN_METRICS_TOKEN_FILE": "is invalid: the file is empty"})
    return token


@asynccontextmanager
async def exposed(
    scraper: Scraper, host: str, port: int, token: str = "", certificate: ServerCertificate | None = None
) -> AsyncIterator[None]:
    """Serve `/metrics` until the block ends; InvalidSettingError when the address is not available. HTTPS with a certificate."""
    handle = Exposition(scraper, token).handle

    def create_protocol() -> asyncio.Protocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(MAX_REQUEST), handle)

    server: asyncio.Server | tls_listener.TlsListener
    try:
        if certificate is None:
            server = await asyncio.start_server(handle, host, port, limit=MAX_REQUEST)
        else:
            server = await tls_listener.listen(create_protocol, host, port, certificate)
    except OSError as error:
        reason = f"cannot listen on {host}:{port}: {error.strerror or error}"
        raise InvalidSettingError({"WARREN_METRICS_HOST, WARREN_METRICS_PORT": reason}) from None
    try:
        yield
    finally:
        server.close()
        with suppress(OSError):
            await server.wait_closed()
