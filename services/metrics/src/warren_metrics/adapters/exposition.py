"""Serve `/metrics` on the event loop, with limits: a client that sends nothing, or reads nothing, costs one of few connections.

prometheus_client's own server has a thread for each connection and no time-outs. This one answers one request per connection, as
scrapers need it.
"""

import asyncio
import gzip
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from warren_bus.errors import InvalidSettingError
from warren_service import tls_listener
from warren_service.server_certificate import ServerCertificate

REQUEST_TIMEOUT = 5.0  # s for a whole request
REPLY_TIMEOUT = 30.0  # s for a reply: the scrape of a large fleet over a slow link
MAX_REQUEST = 8_192  # bytes of a request with its headers
MAX_CONNECTIONS = 16  # Prometheus opens one, or one each of a pair; further ones are closed at once
_REQUEST = re.compile(r"(GET|HEAD) (/metrics)(\?\S*)? HTTP/1\.[01]")


class Exposition:
    """`GET /metrics`. With a token, only `Authorization: Bearer <token>` is answered."""

    def __init__(self, registry: CollectorRegistry, token: str = "") -> None:
        self._registry = registry
        self._token = token.encode()
        self._open = 0
        self._scraping = asyncio.Lock()  # one at a time: others would repeat its work

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
                writer.write(reply)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the connection is closed below
        finally:
            self._open -= 1
            writer.transport.abort()

    async def _reply(self, request: str) -> bytes:
        line, *fields = request.split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        asked = _REQUEST.fullmatch(line)
        if asked is None:
            return _response(HTTPStatus.NOT_FOUND, {}, b"GET /metrics\n")
        given = headers.get("authorization", "").removeprefix("Bearer ").encode()
        if self._token and not hmac.compare_digest(given, self._token):
            return _response(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"}, b"a bearer token is required\n")
        encode, content_type = choose_encoder(headers.get("accept", ""))
        fields_of_reply = {"Content-Type": content_type}
        async with self._scraping:
            body = await asyncio.to_thread(encode, self._registry)
            if "gzip" in headers.get("accept-encoding", ""):
                body = await asyncio.to_thread(gzip.compress, body, 1)
                fields_of_reply["Content-Encoding"] = "gzip"
        return _response(HTTPStatus.OK, fields_of_reply, b"" if asked[1] == "HEAD" else body)


def _response(status: HTTPStatus, headers: dict[str, str], body: bytes) -> bytes:
    fields = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode() + body


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
    registry: CollectorRegistry, host: str, port: int, token: str = "", certificate: ServerCertificate | None = None
) -> AsyncIterator[None]:
    """Serve `/metrics` until the block ends; InvalidSettingError when the address is not available. HTTPS with a certificate."""
    handle = Exposition(registry, token).handle

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
