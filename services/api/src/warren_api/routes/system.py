"""Health, and the stream of events."""

from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from warren_api import sse
from warren_api.errors import TooManyEventStreamsError, TooManyStreamsOfTokenError
from warren_api.routes.common import (
    READS,
    AuthenticateFirstRoute,
    Name,
    PartsOf,
    RouteDependencies,
    Viewer,
)
from warren_contracts.base import BIGINT_MAX
from warren_contracts.commands import Health
from warren_contracts.events import KINDS
from warren_contracts.problems import InvalidField, InvalidInputError, UnauthorizedError

router = APIRouter(prefix="/api", route_class=AuthenticateFirstRoute, tags=["system"])

MAX_LISTENERS = 256  # each has a consumer in the server's memory and one batch here
WITHOUT_TOKEN: Final[dict[str, dict[str, str]]] = {"detail": {}, "remarks": {}}  # what is shown without a token
MAX_OF_ACTOR = 32  # for one token, so that it cannot block the others


@router.get(
    "/health", responses={503: {"model": Health, "description": "A dependency is unavailable: see `dependencies`"}}
)
async def get_health(request: Request, parts: PartsOf, response: Response) -> Health:
    """The health of the API server and its dependencies: 200 if all are ready, 503 otherwise.

    Requires no token. With one, `detail` has the reasons, and `remarks` what needs an operator elsewhere; while the registry cannot
    authenticate it, a token that was valid recently is sufficient for that. A token with a scope shows no more than none does.
    """
    health = await parts.health.health()
    if not health.ready:
        response.status_code = 503
        response.headers["retry-after"] = "1"
    answers = health.dependencies.get("registry") or health.dependencies.get("registry/postgres")
    if answers and "authorization" in request.headers:  # ready or not, it can authenticate the token
        principal = await parts.identity.principal(request)
        return health if principal.scope is None else health.model_copy(update=WITHOUT_TOKEN)
    try:
        credential = parts.identity.credential(request)
    except UnauthorizedError:
        return health.model_copy(update=WITHOUT_TOKEN)
    if parts.authenticator.was_known_for_all(credential.subject):
        return health
    return health.model_copy(update=WITHOUT_TOKEN)


@router.get("/health/live")
async def get_live() -> dict[str, bool]:
    """Whether this process answers, without any call."""
    return {"live": True}


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses=READS
    | {200: {"content": {"text/event-stream": {}}, "description": "Events, until the connection is closed"}},
)
async def get_events(
    request: Request, parts: PartsOf, principal: Viewer,
    kind: Annotated[list[Name] | None, Query(max_length=32, description="Only these: `changed`, `tunnel`, ...")] = None,
    after: Annotated[int | None, Query(ge=0, le=BIGINT_MAX, description="Events after this sequence; none: from now on.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=32)] = None,
) -> StreamingResponse:  # fmt: skip
    """The stream of events as server-sent events; `Last-Event-ID` (or `after`) first replays missed ones."""
    if unknown := next((name for name in kind or () if name not in KINDS), None):
        message = f"unknown kind {unknown}: must be one of {', '.join(KINDS)}"
        raise InvalidInputError(f"kind: {message}", (InvalidField(field="kind", message=message),))
    start = parse_last_event_id(last_event_id) if last_event_id else after
    if parts.listeners.total() >= MAX_LISTENERS:
        raise TooManyEventStreamsError
    if parts.listeners[principal.name] >= MAX_OF_ACTOR:
        raise TooManyStreamsOfTokenError
    stored = parts.bus.events(start, kind or ())
    if principal.scope is not None:
        stored = parts.scopes.events(principal.scope, stored)
    events = sse.stream(stored, parts.stopping, lambda: parts.identity.same_principal(request, principal))
    return StreamingResponse(
        _counted(parts, principal.name, events), media_type="text/event-stream", headers={"x-accel-buffering": "no"}
    )


async def _counted(parts: RouteDependencies, actor: str, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if parts.listeners.total() >= MAX_LISTENERS or parts.listeners[actor] >= MAX_OF_ACTOR:
        yield b": too many listeners\n\n"  # of many that connected at once
        return
    parts.listeners[actor] += 1
    try:
        async for chunk in events:
            yield chunk
    finally:
        parts.listeners[actor] -= 1
        if not parts.listeners[actor]:
            del parts.listeners[actor]


def parse_last_event_id(text: str, field: str = "Last-Event-ID") -> int:
    """The sequence of the last event that a listener received, as `field` states it; raises InvalidInputError."""
    # Python refuses to read a number of more than 4,300 digits
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(BIGINT_MAX)) and int(text) <= BIGINT_MAX):
        message = "must be the id of an event of this endpoint: a number"
        raise InvalidInputError(f"{field}: {message}", (InvalidField(field=field, message=message),))
    return int(text)
