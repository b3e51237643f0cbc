"""Shared by the endpoints: their dependencies, the principal of a request, and the documentation of errors."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import StringConstraints

from warren_api.auth import Authenticator, require
from warren_api.health import HealthProbe
from warren_api.live.hub import LiveHub
from warren_api.ports import Bus
from warren_api.scope.rules import require_scope
from warren_api.scope.source import ScopeSource
from warren_api.scope.view import ScopeView
from warren_api.sessions.identity import RequestAuthenticator, address_of
from warren_contracts.authentication import Authenticated
from warren_contracts.commands import Role
from warren_contracts.names import NAME_PATTERN
from warren_contracts.problems import CONTENT_TYPE, InvalidField, InvalidInputError, Problem


@dataclass
class RouteDependencies:
    """The dependencies of the endpoints; created once, in `app.build_app`."""

    bus: Bus
    authenticator: Authenticator
    health: HealthProbe
    identity: RequestAuthenticator
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set when the process receives SIGTERM
    listeners: Counter[str] = field(default_factory=Counter)  # by actor
    live: LiveHub = field(init=False)
    scopes: ScopeSource = field(init=False)

    def __post_init__(self) -> None:
        self.scopes = ScopeSource(self.bus)
        self.live = LiveHub(self.bus, self.health, self.stopping)


def parts_of(request: Request) -> RouteDependencies:
    parts: RouteDependencies = request.app.state.parts
    return parts


Authentication = Callable[[Request], Awaitable[Authenticated]]
_AUTHENTICATIONS: set[Any] = set()  # the dependencies that authenticate


def principal_with(role: Role) -> Authentication:
    """A dependency: the principal of the request, which must have at least this role."""

    async def authenticated(request: Request) -> Authenticated:
        principal: Authenticated | None = getattr(request.state, "principal", None)
        if principal is None:
            principal = await parts_of(request).identity.principal(request)
            request.state.principal, request.state.actor = principal, principal.name
        require(principal, role)
        require_scope(principal, str(getattr(request.scope.get("route"), "name", "")))
        return principal

    _AUTHENTICATIONS.add(authenticated)
    return authenticated


class AuthenticateFirstRoute(APIRoute):
    """A route that authenticates before it reads the body: FastAPI resolves dependencies after it has parsed one."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        takers = (self.dependant, *self.dependant.dependencies)
        parameters = {parameter.alias for taker in takers for parameter in taker.query_params}
        authentications = [item.call for item in self.dependant.dependencies if item.call in _AUTHENTICATIONS]

        async def handle(request: Request) -> Response:
            for authenticate in authentications:
                assert authenticate is not None
                await authenticate(request)
            _refuse_unknown(request, parameters)
            return await handler(request)

        return handle


async def seen_by(request: Request) -> ScopeView | None:
    """The part of the fleet that the principal of a request sees; None: all of it. After its authentication."""
    principal: Authenticated = request.state.principal
    return None if principal.scope is None else await parts_of(request).scopes.view(principal.scope)


def _refuse_unknown(request: Request, parameters: Collection[str]) -> None:
    """A query parameter that is not known would be ignored, and the reply would be to another question."""
    for name in request.query_params:
        if name not in parameters:
            known = f"known are {', '.join(sorted(parameters))}" if parameters else "this path has none"
            message = f"unknown parameter: {known}"
            raise InvalidInputError(f"{name[:64]}: {message}", (InvalidField(field=name[:64], message=message),))


def client_of(request: Request) -> str:
    """The address of the client, for the audit log."""
    return address_of(request)


Client = Annotated[str, Depends(client_of)]
PartsOf = Annotated[RouteDependencies, Depends(parts_of)]
Seen = Annotated[ScopeView | None, Depends(seen_by)]
Viewer = Annotated[Authenticated, Depends(principal_with(Role.VIEWER))]
Operator = Annotated[Authenticated, Depends(principal_with(Role.OPERATOR))]
Admin = Annotated[Authenticated, Depends(principal_with(Role.ADMIN))]

# Ids are checked here, too, so that an invalid one is refused before any call on the bus.
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
After = Annotated[
    str, Query(max_length=127, description="Names after this one (exclusive): `next_after` of the last page.")
]
Limit = Annotated[int, Query(ge=1, le=500, description="Entries of this page.")]


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an endpoint, for its documentation."""
    words = {
        401: "The token or session is missing, unknown or expired",
        403: "The role does not allow it, or a page of another origin asked for it",
        404: "It does not exist",
        409: "The state has changed meanwhile, or it exists already",
        410: "It is done on the bus",
        412: "The policy has another version than `If-Match` names",
        413: "The body is larger than 900,000 bytes (policies: 4,000,000), or than one message of the bus carries",
        415: "The content type is not JSON: send `Content-Type: application/json`",
        422: "The input is invalid: the problem names the fields",
        429: "Too many unknown tokens from this address, or too many event streams of this token",
        503: "A required service is unavailable: the problem names it",
    }
    content = {CONTENT_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {code: {"description": words[code], "content": content} for code in codes}


READS = problems(401, 403, 422, 429, 503)
READS_ONE = problems(401, 403, 404, 422, 429, 503)
WRITES = problems(401, 403, 404, 409, 413, 415, 422, 429, 503)
