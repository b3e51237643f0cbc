"""What endpoints share: the parts of the application, who calls, and how errors are documented."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import StringConstraints

from warren_contracts.commands import Authenticated, Role
from warren_contracts.names import NAME_PATTERN
from warren_contracts.problems import CONTENT_TYPE, Problem
from warren_gateway.auth import Authenticator, require
from warren_gateway.health import HealthProbe
from warren_gateway.ports import Bus


@dataclass
class Parts:
    """What the endpoints work with; made once, in `app.build_app`."""

    bus: Bus
    authenticator: Authenticator
    health: HealthProbe
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set when the process is told to end
    listeners: int = 0


def parts_of(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


def caller_with(role: Role) -> Callable[[Request], Awaitable[Authenticated]]:
    """A dependency: the caller, who must have this role at least."""

    async def caller(request: Request) -> Authenticated:
        who = await parts_of(request).authenticator.authenticate(request.headers.get("authorization"))
        request.state.actor = who.name
        require(who, role)
        return who

    return caller


PartsOf = Annotated[Parts, Depends(parts_of)]
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
        422: "The input is not valid: the fields are named",
        503: "A part that is needed is away: it is named",
    }
    content = {CONTENT_TYPE: {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {code: {"description": words[code], "content": content} for code in codes}


READS = problems(401, 403, 422, 503)
READS_ONE = problems(401, 403, 404, 422, 503)
WRITES = problems(401, 403, 404, 409, 413, 422, 503)
