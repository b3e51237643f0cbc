"""Every error as a Problem (RFC 9457), FastAPI's own included."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from warren_api.bodies import BodyRefusedError
from warren_api.methods import allowed_methods
from warren_bus.tracing import current
from warren_contracts.problems import CONTENT_TYPE, Problem, WarrenError, invalid_input

# FastAPI's prefix of a field: its location.
_LOCATIONS = frozenset({"body", "query", "path", "header"})
_TITLES = {
    404: ("not-found", "Not found", "unknown path: /api/openapi.json lists all paths"),
    405: (
        "method-not-allowed",
        "Method not allowed",
        "method not allowed on this path: the header Allow lists its methods",
    ),
}


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A problem as a response."""
    return Response(problem.model_dump_json(), problem.status, headers, media_type=CONTENT_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of this application a Problem."""
    app.add_exception_handler(WarrenError, _of_warren)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)


async def _of_warren(_: Request, error: Exception) -> Response:
    assert isinstance(error, WarrenError)
    headers = {"www-authenticate": 'Bearer realm="warren"'} if error.status == 401 else {}
    if error.status in (429, 503):
        headers["retry-after"] = "1"
    return problem_response(error.problem(_trace()), headers)


async def _of_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = []
    for item in error.errors():
        location = tuple(item.get("loc", ()))
        found.append({**item, "loc": location[1:] if location[:1] and location[0] in _LOCATIONS else location})
    return problem_response(invalid_input(found).problem(_trace()))


async def _of_http(request: Request, error: Exception) -> Response:
    if isinstance(error, BodyRefusedError):
        return problem_response(error.error.problem(_trace()))
    assert isinstance(error, HTTPException)
    code, title, detail = _TITLES.get(error.status_code, ("http", "Refused", str(error.detail)))
    problem = Problem(
        type=Problem.PREFIX + code, title=title, status=error.status_code, detail=detail, instance=_trace()
    )
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:
        headers["allow"] = ", ".join(allowed_methods(request.app.state.routes, request.scope))
    return problem_response(problem, headers)


def _trace() -> str:
    here = current()
    return here.trace_id if here else ""
