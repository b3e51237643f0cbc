"""Bodies that the API server refuses, and headers of every response."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from warren_api.middleware import MAX_BODY, MAX_POLICIES
from warren_testkit.api.client import MESH, Client, problem


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"id": "a", "id": "b"}', "the key 'id' is repeated in one object"),
        (b'{"id": "a", "topology": {"kind": "mesh", "kind": "mesh"}}', "the key 'kind' is repeated in one object"),
        (b'{"id": "\xff"}', "invalid UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"priority": ' + b"9" * 5_000 + b"}", "a number has too many digits"),
        (b'{"priority": NaN}', "NaN is not a JSON value"),
        (b"{\n  oops\n}", "invalid JSON: line 2, column 3"),
    ],
)
async def test_an_invalid_json_body_is_refused_with_the_reason(api: Client, body: bytes, said: str) -> None:
    for path in ("/api/policies", "/api/join-tokens"):
        answer = await api.post(path, content=body, headers={"content-type": "application/json"})
        assert said in problem(answer, 422, "invalid-input")["errors"][0]["message"]


async def test_bodies_beyond_the_limit_are_refused_announced_or_not(api: Client) -> None:
    for path, limit in (("/api/join-tokens", MAX_BODY), ("/api/policies", MAX_POLICIES)):
        refused = problem(await api.post(path, content=b" " * (limit + 1)), 413, "body-too-large")
        assert f"{limit:,} bytes" in refused["detail"]

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 100_000

    problem(await api.post("/api/join-tokens", content=chunks()), 413, "body-too-large")


async def test_a_body_is_read_only_of_authenticated_principals(api: Client) -> None:
    api.headers["authorization"] = "Bearer nobody"
    problem(await api.post("/api/policies", content=b"{" * 1_000), 401, "unauthorized")


async def test_policies_that_are_too_much_are_refused_by_the_name_of_their_reader(api: Client) -> None:
    def mesh(number: int, tag: str) -> dict[str, Any]:
        return MESH | {"id": f"p{number}", "description": "x" * 1_000, "topology": {"kind": "mesh", "members": [tag]}}

    one = {"policies": [mesh(number, "tag=branch") for number in range(900)]}
    refused = problem(await api.post("/api/policies:apply", json=one), 422, "policy-set-too-large")
    assert "the set of tag=branch would have more than" in refused["detail"]
    many = {"policies": [mesh(number, f"tag=t{number % 9}") for number in range(900)]}
    refused = problem(await api.post("/api/policies:apply", json=many), 413, "body-too-large")
    assert "apply fewer policies at once" in refused["detail"]
    assert "is for tag=t" in refused["detail"]
    assert api.bus.policies == {}


async def test_every_response_has_security_headers_and_the_trace(api: Client) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    for path in ("/api/policies", "/api/nothing", "/api/health"):
        answer = await api.get(path, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        assert answer.headers["trace-id"] == trace
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert len((await api.get("/api/health")).headers["trace-id"]) == 32


async def test_an_unforeseen_error_is_a_bare_500_with_the_trace(api: Client) -> None:
    api.bus.policies["broken"] = None  # type: ignore[assignment] # what no service would answer
    answer = await api.get("/api/policies/broken")
    body = problem(answer, 500, "internal")
    assert "log" in body["detail"]


@pytest.mark.parametrize("given", [None, "application/x-www-form-urlencoded", "text/plain", "application/yaml"])
async def test_a_body_without_a_json_content_type_is_415_and_the_header_is_named(
    api: Client, given: str | None
) -> None:
    headers = {} if given is None else {"content-type": given}
    answer = await api.post("/api/policies", content=json.dumps(MESH), headers=headers)
    assert "Content-Type: application/json" in problem(answer, 415, "unsupported-media-type")["detail"]


@pytest.mark.parametrize(
    "given", ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"]
)
async def test_a_body_with_a_json_content_type_is_read(api: Client, given: str) -> None:
    answer = await api.post("/api/policies", content=json.dumps(MESH), headers={"content-type": given})
    assert answer.status_code == 201


async def test_a_body_of_another_media_type_is_401_without_a_token(api: Client) -> None:
    answer = await api.post("/api/policies", content="x", headers={"authorization": "Bearer nobody"})
    assert answer.status_code == 401
