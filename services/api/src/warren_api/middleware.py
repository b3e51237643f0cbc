"""Wrap every request: a trace id, a limit for bodies, security headers, one log line, and a Problem for every error.

Plain ASGI: the trace lives in a context variable that the endpoint must see, and event streams must not be buffered.
"""

import time
from collections.abc import Mapping
from typing import Any

import structlog
from opentelemetry.trace import SpanKind, Tracer
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from warren_api.errors import AmbiguousLengthError, BodyTooLargeError
from warren_api.methods import allowed_methods
from warren_bus.tracing import TraceContext
from warren_contracts.policy import MAX_POLICY_SET
from warren_contracts.problems import CONTENT_TYPE, WarrenError
from warren_service.otel import Attributes, describe_span, span

log = structlog.get_logger("warren_api")

MAX_BODY = MAX_POLICY_SET  # bytes; a command is one message of the bus, as is a set
# bytes, for policies: a larger set is refused with the name of its reader
MAX_POLICIES = 4_000_000
MAX_SIGN_IN = 4_096  # bytes: its body is read of anybody
TRACE_HEADER = "trace-id"

_SECURITY = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


class RequestMiddleware:
    """The only middleware."""

    def __init__(self, app: ASGIApp, tracer: Tracer, hsts_seconds: int = 0) -> None:
        self._app, self._tracer = app, tracer
        self._hsts_seconds = hsts_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with span(self._tracer, str(scope["method"]), dict(Headers(scope=scope)), kind=SpanKind.SERVER) as trace:
            # RFC 6797, 7.2: not over HTTP
            secure = self._hsts_seconds and scope.get("scheme") == "https"
            added = {**_SECURITY, "strict-transport-security": f"max-age={self._hsts_seconds}"} if secure else _SECURITY
            await _Exchange(self._app, scope, receive, send, trace, added).run()


class _Exchange:
    """One request and its response."""

    def __init__(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, trace: TraceContext, added: Mapping[str, str]
    ) -> None:
        self._added = added
        self._method = str(scope["method"])
        # The response to HEAD is that to GET without its content (RFC 9110, 9.3.2)
        self._scope = {**scope, "method": "GET"} if self._method == "HEAD" else scope
        self._app, self._receive_raw, self._send_raw, self._trace = app, receive, send, trace
        self._ended = False
        self._started_at = time.perf_counter()
        self._received = 0
        self._status = 0
        self._overflowed = False
        self._limit = _body_limit(str(scope["path"]))

    async def run(self) -> None:
        try:
            self._refuse_ambiguous_length()
            self._refuse_announced_size()
            if self._method == "OPTIONS" and await self._answer_options():
                return
            await self._app(self._scope, self._receive, self._send)
        except WarrenError as error:
            await self._answer(error)
        except Exception as error:
            if self._status:
                raise  # the response has started: only the connection can be closed now
            log.error("http.failed", exc_info=error, path=self._route())
            await self._answer(WarrenError("the API server failed; its log has the trace id of this response"))
        finally:
            self._log()

    def _refuse_ambiguous_length(self) -> None:
        """Two parties that read such a request differently see different requests after it."""
        headers = Headers(scope=self._scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            self._added = {**self._added, "connection": "close"}
            raise AmbiguousLengthError

    def _refuse_announced_size(self) -> None:
        length = Headers(scope=self._scope).get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self._limit:
            raise self._too_large()

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"the body is larger than {self._limit:,} bytes: send less at once")

    async def _answer_options(self) -> bool:
        methods = allowed_methods(self._scope["app"].state.routes, self._scope)
        if not methods:
            return False
        headers = [(b"allow", ", ".join(methods).encode())]
        await self._send({"type": "http.response.start", "status": 204, "headers": headers})
        await self._send({"type": "http.response.body", "body": b""})
        return True

    async def _receive(self) -> Message:
        if self._ended:
            return {"type": "http.disconnect"}
        message = await self._receive_raw()
        self._received += len(message.get("body", b""))
        if self._received > self._limit:
            self._overflowed = True
            raise self._too_large()
        return message

    async def _send(self, message: Message) -> None:
        if self._overflowed and message["type"] == "http.response.start":
            # FastAPI replies 400 to any error while it reads a body: this error is more specific.
            self._overflowed = False
            await self._answer(self._too_large())
            self._send_raw = _nowhere
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._added.items():
                headers.setdefault(name, value)
            headers[TRACE_HEADER] = self._trace.trace_id
        if self._method == "HEAD" and message["type"] == "http.response.body":
            if self._ended:
                return
            self._ended = True  # an event stream ends, too
            message = {"type": "http.response.body", "body": b""}
        await self._send_raw(message)

    async def _answer(self, error: WarrenError) -> None:
        if self._status:
            return
        body = error.problem(self._trace.trace_id).model_dump_json().encode()
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _route(self) -> str:
        route: Any = self._scope.get("route")
        return str(getattr(route, "path", "")) or "(none)"

    def _log(self) -> None:
        about: Attributes = {
            "http.request.method": self._method,
            "http.route": self._route(),
            "http.response.status_code": self._status,
        }
        describe_span(f"{self._method} {self._route()}", about, failed=str(self._status) if self._status >= 500 else "")
        log.info(
            "http.request", method=self._method, path=self._route(), status=self._status,
            ms=round((time.perf_counter() - self._started_at) * 1_000, 1), actor=self._scope.get("state", {}).get("actor", ""),
        )  # fmt: skip


def _body_limit(path: str) -> int:
    if path.startswith("/api/policies"):
        return MAX_POLICIES
    return MAX_SIGN_IN if path.startswith("/api/session") else MAX_BODY


async def _nowhere(message: Message) -> None:
    """Discard the rest of a response that was replaced."""
