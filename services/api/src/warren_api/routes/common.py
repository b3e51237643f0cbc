"""What endpoints share: the parts of the application, who calls, and how errors are documented."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import StringConstraints

from warren_api.auth import Authenticator, require
from warren_api.health import HealthProbe
from warren_api.ports import Bus
from warren_contracts.commands import Authenticated, Role
from warren_contracts.names import NAME_PATTERN
from warren_contracts.problems import CONTENT_TYPE, Problem


@dataclass
class RouteDependencies:
    """What the endpoints work with; made once, in `app.build_app`."""

    bus: Bus
    authenticator: Authenticator
    health: HealthProbe
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set when the process is told to end
    listeners: Counter[str] = field(default_factory=Counter)  # by actor


def parts_of(request: Request) -> RouteDependencies:
    parts: RouteDependencies = request.app.state.parts
    return parts


def address_of(request: Request) -> str:
    """Where a request comes from, as far as the socket says."""
    return request.client.host if request.client is not None else ""


Caller = Callable[[Request], Awaitable[Authenticated]]
_CALLERS: set[Any] = set()  # the dependencies that ask who calls


def caller_with(role: Role) -> Caller:
    """A dependency: the caller, who must have this role at least."""

    async def caller(request: Request) -> Authenticated:
        who: Authenticated | None = getattr(request.state, "who", None)
        if who is None:
            authenticator = parts_of(request).authenticator
            who = await authenticator.authenticate(request.headers.get("authorization"), address_of(request))
            request.state.who, request.state.actor = who, who.name
        require(who, role)
        return who

    _CALLERS.add(caller)
    return caller


class AuthenticateFirstRoute(APIRoute):
    """A route that asks who calls before it reads the body: FastAPI solves dependencies after it has parsed one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        callers = [wanted.call for wanted in self.dependant.dependencies if wanted.call in _CALLERS]

        async def asked(request: Request) -> Response:
            for caller in callers:
                assert caller is not None
                await caller(request)
            return await answer(request)

        return asked


PartsOf = Annotated[RouteDependencies, Depends(parts_of)]
Viewer = Annotated[Authenticated, Depends(caller_with(Role.VIEWER))]
Operator = Annotated[Authenticated, Depends(caller_with(Role.OPERATOR))]
Admin = Annotated[Authenticated, Depends(caller_with(Role.ADMIN))]

# Ids are checked here too, so that a wrong one is named before anything is asked of the bus.
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
After = Annotated[
    str, Query(max_length=127, description="Names after this one (exclusive): `next_after` of the last page.")
]
Limit = Annotated[int, Query(ge=1, le=500, description="Entries of this page.")]


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an endpoint, for its documentation."""
    words = {
        401: "The token is absent, wrong or expired",
        403: "The role of the token does not allow it",
        404: "There is no such thing",
        409: "The state has changed meanwhile, or it exists already",
        410: "This happens on the bus",
        412: "The policy has another version than `If-Match` names",
        413: "The body is larger than 900,000 bytes (policies: 4,000,000), or than one message of the bus carries",
        415: "The body is not said to be JSON: `Content-Type: application/json`",
        422: "The input is not valid: the fields are named",
        429: "Too many wrong tokens from this address, or too many streams of events of this token",
        503: "A part that is needed is unavailable: it is named",
    }
    content = {CONTENT_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {code: {"description": words[code], "content": content} for code in codes}


READS = problems(401, 403, 422, 429, 503)
READS_ONE = problems(401, 403, 404, 422, 429, 503)
WRITES = problems(401, 403, 404, 409, 413, 415, 422, 429, 503)
