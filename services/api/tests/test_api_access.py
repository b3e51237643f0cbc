"""Authentication and roles at the API server, and an address that guesses tokens."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from warren_api.auth import CACHE_SECONDS, Authenticator
from warren_api.errors import TooManyFailedTokensError
from warren_contracts.commands import CreateOperatorToken, OperatorToken, Role
from warren_contracts.problems import UnauthorizedError
from warren_testkit.api import TOKENS, FakeBus
from warren_testkit.api.client import MESH, Client, problem


@pytest.mark.parametrize("authorization", ["", "Bearer wrong", "Basic dXNlcjpwYXNz", "Bearer", f"Bearer {'x' * 600}"])
async def test_without_a_valid_token_nothing_is_returned(api: Client, authorization: str) -> None:
    api.headers["authorization"] = authorization
    for path in ("/api/policies", "/api/peers", "/api/tunnels", "/api/events"):
        answer = await api.get(path)
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("method", "path", "body", "least"),
    [
        ("GET", "/api/policies", None, Role.VIEWER),
        ("GET", "/api/policies/mesh", None, Role.VIEWER),
        ("GET", "/api/peers", None, Role.VIEWER),
        ("GET", "/api/peers/gw1", None, Role.VIEWER),
        ("GET", "/api/tunnels", None, Role.VIEWER),
        ("GET", "/api/tunnels/t", None, Role.VIEWER),
        ("GET", "/api/tunnels/t/explanation", None, Role.VIEWER),
        ("POST", "/api/policies", MESH | {"id": "new"}, Role.OPERATOR),
        ("PUT", "/api/policies/mesh", MESH, Role.OPERATOR),
        ("DELETE", "/api/policies/mesh", None, Role.OPERATOR),
        ("POST", "/api/policies:apply", {"policies": [MESH]}, Role.OPERATOR),
        ("POST", "/api/policies:delete", {"ids": ["mesh"]}, Role.OPERATOR),
        ("PUT", "/api/peers/gw1/tags", {"tags": []}, Role.ADMIN),
        ("DELETE", "/api/peers/gw1", None, Role.ADMIN),
        ("POST", "/api/join-tokens", {}, Role.ADMIN),
        ("POST", "/api/epoch", {}, Role.ADMIN),
        ("GET", "/api/join-tokens", None, Role.ADMIN),
        ("GET", "/api/operator-tokens", None, Role.ADMIN),
        ("POST", "/api/operator-tokens", {"name": "n", "role": "viewer"}, Role.ADMIN),
    ],
)
async def test_each_endpoint_requires_its_role(
    api: Client, method: str, path: str, body: dict[str, Any] | None, least: Role
) -> None:
    api.bus.add_peer("gw1")
    api.bus.add_tunnel("t")
    await api.post("/api/policies", json=MESH)
    reached = False
    for role in Role:
        answer = await api.role(role).request(method, path, json=body)
        reached = reached or role is least
        if reached:
            assert answer.status_code < 300, (role, answer.text)
            break
        problem(answer, 403, "forbidden")


async def test_an_authentication_is_cached_for_seconds_only() -> None:
    now, bus = [100.0], FakeBus()
    authenticator = Authenticator(bus, lambda: now[0])
    header = f"Bearer {TOKENS[Role.VIEWER]}"
    for _ in range(3):
        assert (await authenticator.authenticate(header)).role is Role.VIEWER
    assert len(bus.calls) == 1
    assert TOKENS[Role.VIEWER] not in repr(bus.calls)
    bus.unavailable = {"registry"}
    assert (await authenticator.authenticate(header)).role is Role.VIEWER
    now[0] += CACHE_SECONDS
    with pytest.raises(Exception, match="registry"):
        await authenticator.authenticate(header)


async def test_no_token_reaches_the_log(api: Client, caplog: pytest.LogCaptureFixture, capsys: Any) -> None:
    caplog.set_level(logging.DEBUG)
    made = (await api.post("/api/join-tokens", json={"note": "x"})).json()["token"]
    await api.get("/api/policies", headers={"authorization": "Bearer planted-secret"})
    output = capsys.readouterr()
    said = caplog.text + output.out + output.err
    assert "http.request" in said
    for secret in (made, TOKENS[Role.ADMIN], "planted-secret"):
        assert secret not in said


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_body_is_not_read_before_the_token_is_authenticated(api: Client, method: str) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(4):
            read += 1
            yield b"[" * 100_000

    headers = {"authorization": "Bearer wrong", "content-type": "application/json"}
    path = "/api/policies" if method == "POST" else "/api/policies/mesh"
    problem(await api.request(method, path, content=body(), headers=headers), 401, "unauthorized")
    assert ("policy", "apply") not in [(service, verb) for service, verb, _ in api.bus.calls]
    assert read == 0
    forbidden = await api.role(Role.VIEWER).request(
        method, path, content=body(), headers={"content-type": "application/json"}
    )
    problem(forbidden, 403, "forbidden")
    assert read == 0


async def test_unknown_tokens_of_one_address_are_soon_refused_without_a_call(api: Client) -> None:
    good = api.headers["authorization"]
    assert (await api.get("/api/policies")).status_code == 200
    statuses: list[int] = []
    while 429 not in statuses and len(statuses) < 500:  # one more is allowed for each second that this takes
        api.headers["authorization"] = f"Bearer wrong-{len(statuses)}"
        answer = await api.get("/api/policies")
        statuses.append(answer.status_code)
    assert statuses[:20] == [401] * 20
    problem(answer, 429, "too-many-wrong-tokens")
    assert answer.headers["retry-after"] == "1"
    asked = sum(1 for _, verb, _ in api.bus.calls if verb == "authenticate")
    assert asked == 1 + statuses.count(401)
    api.headers["authorization"] = good
    assert (await api.get("/api/policies")).status_code == 200


async def test_a_token_that_exists_is_authenticated_next_to_unknown_ones_and_the_rest_is_refused() -> None:
    now, bus = [100.0], FakeBus()
    authenticator = Authenticator(bus, lambda: now[0])
    good, late = f"Bearer {TOKENS[Role.VIEWER]}", "Bearer new-token-of-late"
    await bus.call(
        "registry", "create_operator_token", CreateOperatorToken(name="late", role=Role.ADMIN), OperatorToken
    )
    await authenticator.authenticate(good, "proxy")
    for number in range(20):
        with pytest.raises(UnauthorizedError):
            await authenticator.authenticate(f"Bearer wrong-{number}", "proxy")
    assert (await authenticator.authenticate(late, "proxy")).role is Role.ADMIN
    with pytest.raises(TooManyFailedTokensError):
        await authenticator.authenticate("Bearer wrong", "proxy")
    now[0] += CACHE_SECONDS
    assert (await authenticator.authenticate(good, "proxy")).role is Role.VIEWER
    with pytest.raises(UnauthorizedError):
        await authenticator.authenticate("Bearer wrong", "proxy")
