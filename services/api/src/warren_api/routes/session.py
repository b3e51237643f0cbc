"""Sign-in and sign-out of browsers: a bearer token, or the code of a link, is exchanged for a session's cookie."""

import math
from datetime import UTC, datetime, timedelta

import structlog
from fastapi import APIRouter, Request, Response

from warren_api.auth import token_digest
from warren_api.bodies import JsonRoute
from warren_api.routes.common import READS, PartsOf, Viewer, problems
from warren_api.sessions.cookie import clear_cookie, require_own_origin, secret_of, set_cookie
from warren_api.sessions.credential import Credential, Method
from warren_api.sessions.identity import address_of
from warren_api.sessions.store import CODE_SECONDS, SessionStore, SignInGrant
from warren_contracts.http_bodies import SignedIn, SignedOut, SignIn, SignInCode
from warren_contracts.problems import UnauthorizedError

log = structlog.get_logger("warren_api")

router = APIRouter(prefix="/api/session", route_class=JsonRoute, tags=["session"])

PAGE_PATH = "/sign-in#code="
INVALID_CODE = "the sign-in link was used already or is older than a minute: print another one with `warren sign-in`"
USED_TWICE = (
    "the sign-in link was used already, and the session that it opened has been ended: if you did not open it, somebody else has "
    "read the link (`warren audit list` shows what was done); print another one with `warren sign-in`"
)


@router.get("", responses=READS)
async def get_session(request: Request, parts: PartsOf, principal: Viewer) -> SignedIn:
    """Who is signed in, and until when."""
    secret = secret_of(request)
    session = parts.identity.sessions.find(secret) if secret is not None else None
    if session is None or "authorization" in request.headers:
        return SignedIn(name=principal.name, role=principal.role, scope=principal.scope)
    left = timedelta(seconds=parts.identity.sessions.seconds_left(session))
    ends = datetime.now(UTC) + left
    return SignedIn(name=principal.name, role=principal.role, scope=principal.scope, expires_at=ends)


@router.post("", status_code=201, responses=problems(401, 403, 413, 415, 422, 429, 503))
async def sign_in(request: Request, parts: PartsOf, body: SignIn, response: Response) -> SignedIn:
    """Open a session of this browser, by a bearer token or by the code of a sign-in link. The response sets its cookie."""
    require_own_origin(request)
    sessions = parts.identity.sessions
    if body.code is not None:
        grant = _redeem(sessions, body.code, request)
    else:
        grant = SignInGrant(Credential(Method.TOKEN, token_digest(body.token or "")), math.inf)
    principal = await parts.identity.check(grant.credential, address_of(request))
    if (former := secret_of(request)) is not None:
        sessions.close(former)  # of the one who was signed in here before
    secret = sessions.open(grant.credential, principal.name, grant.until, body.code or "")
    session = sessions.find(secret)
    left = sessions.seconds_left(session) if session is not None else 0.0
    set_cookie(request, response, secret, left)
    request.state.actor = principal.name
    log.info(
        "session.opened",
        actor=principal.name,
        by="code" if body.code is not None else "token",
        client=address_of(request),
    )
    ends = datetime.now(UTC) + timedelta(seconds=left)
    return SignedIn(name=principal.name, role=principal.role, scope=principal.scope, expires_at=ends)


def _redeem(sessions: SessionStore, code: str, request: Request) -> SignInGrant:
    """What a code stands for. Raises UnauthorizedError."""
    grant = sessions.redeem(code)
    if grant is not None:
        return grant
    if sessions.end_opened_by(code, unless=secret_of(request)):
        log.warning("session.code_used_twice", client=address_of(request))
        raise UnauthorizedError(USED_TWICE)
    raise UnauthorizedError(INVALID_CODE)


@router.delete("", responses=problems(403))
async def sign_out(request: Request, parts: PartsOf, response: Response) -> SignedOut:
    """End the session of this browser; without one, nothing happens."""
    require_own_origin(request)
    if (secret := secret_of(request)) is not None:
        parts.identity.sessions.close(secret)
    clear_cookie(request, response)
    return SignedOut()


@router.post("/codes", status_code=201, responses=problems(401, 403, 429, 503))
async def create_sign_in_code(request: Request, parts: PartsOf, principal: Viewer) -> SignInCode:
    """Create the code of a sign-in link, which opens one session with the role and the scope of this request, within a minute.

    A session that is opened by the code of another session ends no later than that one.
    """
    sessions = parts.identity.sessions
    secret = secret_of(request) if "authorization" not in request.headers else None
    session = sessions.find(secret) if secret is not None else None
    until = session.expires_at if session is not None else math.inf
    code = sessions.issue_code(parts.identity.credential(request), until)
    expires_at = datetime.now(UTC) + timedelta(seconds=CODE_SECONDS)
    return SignInCode(code=code, path=f"{PAGE_PATH}{code}", expires_at=expires_at)
