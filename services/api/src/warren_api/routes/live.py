"""The live view: server-sent events, and a WebSocket on the same path."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import urlsplit

import anyio
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import TypeAdapter, ValidationError
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from warren_api import sse
from warren_api.auth import require
from warren_api.live.filters import MAX_VALUES, LiveFilter
from warren_api.live.hub import LiveHub, LiveStream
from warren_api.live.messages import LiveFrame
from warren_api.routes.common import READS, AuthenticateFirstRoute, Name, PartsOf, RouteDependencies, Viewer
from warren_api.routes.system import parse_last_event_id
from warren_api.scope.rules import require_scope
from warren_api.sessions.identity import address_of
from warren_contracts.authentication import Authenticated
from warren_contracts.base import BIGINT_MAX
from warren_contracts.commands import Role
from warren_contracts.live import LiveMessage
from warren_contracts.problems import (
    CONTENT_TYPE,
    ForbiddenError,
    InvalidField,
    InvalidInputError,
    WarrenError,
    invalid_input,
)
from warren_contracts.status import TunnelState

router = APIRouter(prefix="/api", route_class=AuthenticateFirstRoute, tags=["live"])

PATH = "/api/live"
KEEPALIVE_SECONDS = 10.0
SEND_SECONDS = 30.0  # for one message over a WebSocket
PARAMETERS = ("peer", "tag", "policy", "state", "cursor")
# Of RFC 6455, 7.4.1, and of its private range: a reason comes with each
POLICY_VIOLATION, TRY_AGAIN_LATER, UNAUTHORIZED = 1008, 1013, 4401

_NAMES = TypeAdapter(Annotated[list[Name], Query(max_length=MAX_VALUES)])
_STATES = TypeAdapter(list[TunnelState])

Names = Annotated[list[Name] | None, Query(max_length=MAX_VALUES)]


def filter_of(
    peer: Names = None, tag: Names = None, policy: Names = None,
    state: Annotated[list[TunnelState] | None, Query(max_length=MAX_VALUES)] = None,
) -> LiveFilter:  # fmt: skip
    """The filter of a query."""
    return LiveFilter(frozenset(peer or ()), frozenset(tag or ()), frozenset(policy or ()), frozenset(state or ()))


@router.get(
    "/live",
    response_class=StreamingResponse,
    responses=READS
    | {
        200: {
            "model": LiveMessage,
            "content": {"text/event-stream": {"schema": {"$ref": "#/components/schemas/LiveMessage"}}},
            "description": "Messages, until the connection is closed",
        }
    },
)
async def follow_fleet(
    request: Request, parts: PartsOf, principal: Viewer, wanted: Annotated[LiveFilter, Depends(filter_of)],
    cursor: Annotated[int | None, Query(ge=0, le=BIGINT_MAX, description="Continue after this cursor of a message.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=32)] = None,
) -> StreamingResponse:  # fmt: skip
    """The fleet live: a snapshot of tunnels, peers, policies and the services' health, `ready`, then every change.

    As server-sent events `event` is the kind of the message, `data` the message, and `id` its cursor: `Last-Event-ID` (or `cursor`)
    continues where the reader was; where that is no longer possible, a new snapshot replaces what the reader has. Fields with their
    default are left out. As a WebSocket (the same path and parameters) each message is a text frame, and the close frame says why.
    Values of one parameter are alternatives. A reader that is too slow gets `dropped` with the reason. A token with a scope gets no
    cursor, and a new snapshot with each connection.
    """
    after = parse_last_event_id(last_event_id) if last_event_id else cursor
    address = address_of(request)
    parts.live.admit(principal.name, address)
    try:
        stream = await parts.live.open(wanted, after, principal.scope)
    except BaseException:
        parts.live.leave(principal.name, address, None)
        raise
    events = _as_events(parts, request, principal, stream)
    return LiveResponse(events, parts.live, (principal.name, address, stream))


class LiveResponse(StreamingResponse):
    """Server-sent events whose stream is given back however the response ends, also before its first byte."""

    def __init__(self, content: AsyncIterator[bytes], hub: LiveHub, entry: tuple[str, str, LiveStream]) -> None:
        super().__init__(content, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._hub = hub
        self._entry = entry

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._hub.leave(*self._entry)


async def _as_events(
    parts: RouteDependencies, request: HTTPConnection, principal: Authenticated, stream: LiveStream
) -> AsyncIterator[bytes]:
    yield f"retry: {sse.RETRY_MS}\n\n".encode()
    check_at = anyio.current_time() + sse.RECHECK_SECONDS
    async with aclosing(stream.messages(KEEPALIVE_SECONDS)) as messages:
        async for message in messages:
            yield b": alive\n\n" if message is None else _event(message)
            if anyio.current_time() >= check_at:
                check_at = anyio.current_time() + sse.RECHECK_SECONDS
                if not await sse.is_authorized(lambda: parts.identity.same_principal(request, principal)):
                    yield b'event: dropped\ndata: {"kind":"dropped","reason":"unauthorized: the token is no longer valid"}\n\n'
                    return


def _event(message: LiveFrame) -> bytes:
    cursor = f"id: {message.cursor}\n" if message.cursor is not None else ""
    return f"{cursor}event: {message.kind}\ndata: {message.body}\n\n".encode()


async def _websocket(websocket: WebSocket) -> None:
    """`/api/live` as a WebSocket: refusals are problems before the handshake ends."""
    parts: RouteDependencies = websocket.app.state.parts
    try:
        _require_own_origin(websocket)
        principal = await parts.identity.principal(websocket)
        require(principal, Role.VIEWER)
        require_scope(principal, ROUTE.name)
        wanted, cursor = _query_of(websocket)
        address = address_of(websocket)
        parts.live.admit(principal.name, address)
    except WarrenError as error:
        await _deny(websocket, error)
        return
    stream: LiveStream | None = None
    try:
        stream = await parts.live.open(wanted, cursor, principal.scope)
        await websocket.accept()
        await _exchange(parts, websocket, principal, stream)
    except WarrenError as error:
        await _deny(websocket, error)
    except WebSocketDisconnect:
        pass
    finally:
        parts.live.leave(principal.name, address, stream)


async def _exchange(
    parts: RouteDependencies, websocket: WebSocket, principal: Authenticated, stream: LiveStream
) -> None:
    """Send until either side ends the stream."""
    async with anyio.create_task_group() as group:

        async def receive() -> None:
            message = await websocket.receive()
            if message["type"] != "websocket.disconnect":
                await websocket.close(POLICY_VIOLATION, "this stream takes no messages: filter by the query")
            group.cancel_scope.cancel()

        group.start_soon(receive)
        code, reason = await _send_all(parts, websocket, principal, stream)
        if websocket.application_state is WebSocketState.CONNECTED:
            with anyio.move_on_after(SEND_SECONDS):
                await websocket.close(code, reason)
        group.cancel_scope.cancel()


async def _send_all(
    parts: RouteDependencies, websocket: WebSocket, principal: Authenticated, stream: LiveStream
) -> tuple[int, str]:
    """Send messages; returns the code and the reason with which to close."""
    check_at = anyio.current_time() + sse.RECHECK_SECONDS
    async with aclosing(stream.messages(KEEPALIVE_SECONDS)) as messages:
        async for message in messages:
            with anyio.move_on_after(SEND_SECONDS) as limit:
                await websocket.send_text('{"kind":"alive"}' if message is None else message.body)
            if limit.cancelled_caught:
                return TRY_AGAIN_LATER, "slow-reader"
            if message is not None and message.kind == "dropped":
                return TRY_AGAIN_LATER, message.body.partition('"reason":"')[2].partition(":")[0]
            if anyio.current_time() >= check_at:
                check_at = anyio.current_time() + sse.RECHECK_SECONDS
                if not await sse.is_authorized(lambda: parts.identity.same_principal(websocket, principal)):
                    return UNAUTHORIZED, "unauthorized"
    return TRY_AGAIN_LATER, "ended"


def _require_own_origin(websocket: WebSocket) -> None:
    """A page of another origin must not open it in the name of the operator who has signed in (RFC 6455, 10.2)."""
    origin = websocket.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != websocket.headers.get("host"):
        raise ForbiddenError("a page of another origin may not open this stream")


def _query_of(websocket: WebSocket) -> tuple[LiveFilter, int | None]:
    """The filter and the cursor. Raises InvalidInputError."""
    query = websocket.query_params
    for name in query:
        if name not in PARAMETERS:
            message = f"unknown parameter: known are {', '.join(sorted(PARAMETERS))}"
            raise InvalidInputError(f"{name[:64]}: {message}", (InvalidField(field=name[:64], message=message),))
    found: dict[str, list[Any]] = {}
    for name in PARAMETERS[:-1]:
        values = query.getlist(name)
        adapter: TypeAdapter[Any] = _STATES if name == "state" else _NAMES
        try:
            found[name] = adapter.validate_python(values[: MAX_VALUES + 1])
        except ValidationError as error:
            raise invalid_input(error.errors(include_url=False), name) from None
    cursor = query.get("cursor")
    filters = [frozenset(found[name]) for name in PARAMETERS[:-1]]
    return LiveFilter(*filters), None if cursor is None else parse_last_event_id(cursor, "cursor")


async def _deny(websocket: WebSocket, error: WarrenError) -> None:
    """Refuse the handshake with a problem, or close what was accepted."""
    if websocket.client_state is not WebSocketState.CONNECTING:
        await websocket.close(TRY_AGAIN_LATER, error.code)
        return
    challenge = {"www-authenticate": "Bearer"} if error.status == 401 else {}
    headers: Mapping[str, str] = {"cache-control": "no-store", **challenge}
    body = error.problem().model_dump_json()
    await websocket.send_denial_response(Response(body, error.status, headers, media_type=CONTENT_TYPE))


ROUTE = WebSocketRoute(PATH, _websocket, name="follow_fleet_by_websocket")
