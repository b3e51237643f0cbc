"""The application of the API server on a fake bus."""

from fastapi import FastAPI
from starlette.routing import BaseRoute

from warren_api.app import build_app
from warren_api.sessions.store import SessionStore
from warren_testkit.api.bus import FakeBus

_routes: list[BaseRoute] = []


def build_test_app(bus: FakeBus, sessions: SessionStore | None = None) -> FastAPI:
    """As `build_app`, on the routes of the first one in this process: FastAPI builds their models at an application's first request,
    which takes longer than most tests."""
    app = build_app(bus, sessions=sessions)
    if not _routes:
        _routes.extend(app.router.routes)
    app.router.routes[:] = _routes
    return app
