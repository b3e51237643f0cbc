"""A client of the API, with nothing between it and the application."""

from typing import Any

import httpx

from warren_contracts.commands import Role
from warren_contracts.problems import CONTENT_TYPE
from warren_testkit.api.application import build_test_app
from warren_testkit.api.bus import FakeBus
from warren_testkit.api.tokens import TOKENS

MESH = {"id": "mesh", "topology": {"kind": "mesh", "members": ["tag=branch"]}}
"""The smallest policy."""


class Client(httpx.AsyncClient):
    """A client with a role; `bus` is what stands behind."""

    def __init__(self, bus: FakeBus) -> None:
        super().__init__(transport=httpx.ASGITransport(app=build_test_app(bus)), base_url="http://api")
        self.bus = bus
        self.role(Role.ADMIN)

    def role(self, role: Role) -> "Client":
        self.headers["authorization"] = f"Bearer {TOKENS[role]}"
        return self


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The body of a refusal, which must be problem details of this status and kind (RFC 9457)."""
    assert response.headers["content-type"] == CONTENT_TYPE
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["status"], body["type"]) == (status, status, f"urn:warren:problem:{kind}")
    assert body["instance"] == response.headers["trace-id"]
    assert body["detail"]
    return body
