"""The HTTP application: routes, errors and middleware around a bus."""

import json
import time
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from opentelemetry.trace import Tracer
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from warren_api import responses
from warren_api.auth import Authenticator
from warren_api.health import HealthProbe
from warren_api.middleware import RequestMiddleware
from warren_api.page import PageFiles
from warren_api.page import routes as page_routes
from warren_api.ports import Bus
from warren_api.routes import audit, epoch, history, live, peers, policies, revisions, session, system, trust, tunnels
from warren_api.routes.common import RouteDependencies, problems
from warren_api.scope.rules import RULES
from warren_api.sessions.cookie import SECURE_NAME
from warren_api.sessions.credential import Method
from warren_api.sessions.identity import RequestAuthenticator
from warren_api.sessions.store import SessionStore
from warren_contracts.problems import Problem
from warren_service.otel import build_tracer

DOCUMENT = "/api/openapi.json"
VERSION = "1"  # of the API; grows with an incompatible change
OPEN = frozenset({"/api/health", "/api/health/live", "/api/peers/register", "/api/peers/{peer_id}/status"})
OPEN_OPERATIONS = frozenset({("/api/session", "post"), ("/api/session", "delete")})
ROUTERS = (
    revisions.router, policies.router, peers.router, tunnels.router, history.router, epoch.router, audit.router, trust.router,
    session.router, live.router, system.router,
)  # fmt: skip
DESCRIPTION = """The API of Warren for operators and other systems. Every error is a problem document (RFC 9457).

Send `Authorization: Bearer <token>`. Roles: `viewer` reads, `operator` also changes policies, `admin` also retags and
revokes peers, creates, lists and removes tokens, and advances epochs. A token with a scope (tags) is for the peers that carry one of
them, and for their tunnels: what is outside answers as if it did not exist. A removed token is accepted for at most five seconds more,
and thirty in an open event stream. A browser signs in at `/api/session` instead, and sends a cookie; its changes need the header
`Origin` of this server. The header `trace-id` of each response is the trace id in the services' logs."""


def build_app(
    bus: Bus,
    *,
    hsts_seconds: int = 0,
    page: PageFiles | None = None,
    sessions: SessionStore | None = None,
    tracer: Tracer | None = None,
) -> FastAPI:
    """Create the application for a bus; it does not connect. `hsts_seconds`: of RFC 6797 over HTTPS, 0 for none.

    `page`: the web page; None: it was not built. `sessions`: of browsers; None: of 12 hours, and of one without a request. `tracer`:
    None for one that exports nothing.
    """
    app = FastAPI(
        title="Warren", version=VERSION, description=DESCRIPTION, openapi_url=None,
        docs_url=None, redoc_url=None, redirect_slashes=False, separate_input_output_schemas=False,
        generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    authenticator = Authenticator(bus)
    identity = RequestAuthenticator(
        sessions or SessionStore(43_200, 3_600, time.monotonic), {Method.TOKEN: authenticator.check}
    )
    app.state.parts = RouteDependencies(bus, authenticator, HealthProbe(bus), identity)
    for router in ROUTERS:
        app.include_router(router)
    document = Route(DOCUMENT, _document, methods=["GET"], include_in_schema=False)
    pages = page_routes(page)
    app.router.routes += [document, live.ROUTE, *pages]
    app.state.routes = (document, *pages, *(route for router in ROUTERS for route in router.routes))
    responses.install(app)
    app.add_middleware(RequestMiddleware, tracer=tracer or build_tracer("api", ()), hsts_seconds=hsts_seconds)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign] # FastAPI's documented way to extend the document
    return app


async def _document(request: Request) -> Response:
    """The OpenAPI document, written once: anybody may ask for it."""
    app: FastAPI = request.app
    if (text := getattr(app.state, "document", None)) is None:
        text = app.state.document = json.dumps(openapi(app), separators=(",", ":")).encode()
    return Response(text, media_type="application/json")


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with the security scheme, and Problem instead of FastAPI's own error.

    `x-scope`: what an operation does with a token that has a scope (`warren_api.scope.rules.ScopeRule`).
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes,
            separate_input_output_schemas=False,
        )  # fmt: skip
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= problem.pop("$defs", {}) | {"Problem": problem}
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for schema in schemas.values():
            _fit_generators(schema)
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": SECURE_NAME},
        }
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                is_open = path in OPEN or (path, method) in OPEN_OPERATIONS
                operation["x-scope"] = RULES[operation["operationId"]].value
                operation["security"] = [] if is_open else [{"token": []}, {"session": []}]
                operation["responses"].update(_own_validation_error(operation["responses"]))
        app.openapi_schema = document
    return app.openapi_schema


def _fit_generators(schema: dict[str, Any]) -> None:
    """Write what generators of clients refuse or read wrongly (openapi-python-client 0.29) in another way that means the same.

    A property that is an object has no default: its own schema has those of its fields. A member of a union that is one word is an
    `enum` of one.
    """
    for described in schema.get("properties", {}).values():
        if isinstance(described.get("default"), dict):
            del described["default"]
        for member in described.get("anyOf", ()):
            if isinstance(word := member.get("const"), str):
                del member["const"]
                member |= {"type": "string", "enum": [word]}


def _own_validation_error(described: dict[str, Any]) -> dict[str, Any]:
    """Replace FastAPI's own description of an error by that of a Problem, which is what is sent."""
    if "HTTPValidationError" not in str(described.get("422", "")):
        return {}
    return {str(code): text for code, text in problems(422).items()}
