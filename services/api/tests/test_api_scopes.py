"""Tokens with a scope: what each route does with one, and that nothing of the rest of the fleet is in any reply."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from warren_api.app import OPEN, OPEN_OPERATIONS, ROUTERS
from warren_api.auth import Authenticator, token_digest
from warren_api.routes import live
from warren_api.scope import rules
from warren_api.scope.rules import RULES, ScopeRule
from warren_contracts.commands import Role
from warren_contracts.status import DriverState, DriverStatus
from warren_testkit.api import TOKENS
from warren_testkit.api.client import MESH, Client, problem
from warren_testkit.api.world import TOKENS_OF, two_customers

ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
BODIES: dict[str, Any] = {
    "create_policy": MESH, "put_policy": MESH, "apply_policies": {"policies": [MESH]},
    "plan_policies": {"policies": [MESH]}, "delete_policies": {"ids": ["mesh"]}, "roll_back_policy": {"to": 1},
    "retag_peer": {"tags": ["x"]}, "set_peer_priority": {"priority": 1}, "create_join_token": {},
    "create_operator_token": {"name": "n", "role": "viewer"}, "advance_epoch": {},
}  # fmt: skip
NAMES = {
    "peer_id": ("a-1", "b-1", "hub", "nosuch"),
    "name": ("a-1+hub", "b-1+hub", "b-link", "nosuch"),
    "policy_id": ("mesh", "nosuch"),
}
NOT_A_NAME = {"token_id": "a" * 16}
FOREIGN = re.compile(r"b-1|b-2|b-link|customer-b|mesh|10\.66")
STREAMS = frozenset({"follow_fleet", "get_events"})


@pytest.fixture
async def api() -> Any:
    """A client as administrator of two customers' fleet."""
    async with Client(two_customers()) as client:
        await client.post("/api/policies", json=MESH | {"description": "b-1 and 10.66.0.0/16"})
        yield client


def as_customer(api: Client, role: Role = Role.ADMIN) -> Client:
    api.headers["authorization"] = f"Bearer {TOKENS_OF[role]}"
    return api


def methods_of(route: APIRoute) -> list[str]:
    return sorted(route.methods or ())


def paths(route: APIRoute) -> Iterator[tuple[str, str]]:
    """The path of a route with each name, and that name."""
    field = next(iter(re.findall(r"{(\w+)}", route.path)), "")
    if route.name == "remove_operator_token":
        yield route.path.replace("{name}", "n"), "n"
        return
    for name in NAMES.get(field, (NOT_A_NAME.get(field, ""),)):
        yield route.path.replace(f"{{{field}}}", name), name


def without_name(answer: httpx.Response, name: str) -> str:
    """A reply without what is different by design: the name that was asked for and the trace."""
    return f"{answer.status_code} {answer.text.replace(answer.headers['trace-id'], '').replace(name, 'NAME')}"


def test_every_route_says_what_it_does_with_a_scope() -> None:
    every: list[BaseRoute] = [*ROUTES, live.ROUTE]
    names = [getattr(route, "name", "") for route in every]
    assert sorted(names) == sorted(RULES), (
        "a route is missing in warren_api.scope.rules, or one is there that does not exist"
    )


def test_the_routes_without_a_token_are_those_of_the_document() -> None:
    methods = {(route.path, method.lower()): route.name for route in ROUTES for method in methods_of(route)}
    unprotected = {
        name for (path, method), name in methods.items() if path in OPEN or (path, method) in OPEN_OPERATIONS
    }
    assert {name for name, rule in RULES.items() if rule is ScopeRule.OPEN} == unprotected - {"get_health"}


async def test_the_document_says_what_each_operation_does_with_a_scope(api: Client) -> None:
    paths = (await api.get("/api/openapi.json")).json()["paths"]
    stated = {it["operationId"]: it["x-scope"] for operations in paths.values() for it in operations.values()}
    assert stated == {name: rule.value for name, rule in RULES.items() if name != live.ROUTE.name}


async def test_a_route_that_does_not_say_so_refuses_a_scope(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "RULES", {})
    for route in ROUTES:
        if RULES[route.name] is ScopeRule.OPEN or route.name == "get_health":
            continue
        path, _ = next(paths(route))
        answer = await as_customer(api).request(methods_of(route)[0], path, json=BODIES.get(route.name))
        problem(answer, 403, "forbidden")


async def test_what_is_refused_is_refused_before_anything_is_looked_up(api: Client) -> None:
    refused = [route for route in ROUTES if RULES[route.name] is ScopeRule.REFUSED]
    assert len(refused) > 15
    for route in refused:
        for path, name in paths(route):
            api.bus.calls.clear()
            answer = await as_customer(api).request(methods_of(route)[0], path, json=BODIES.get(route.name))
            assert "customer-a" in problem(answer, 403, "forbidden")["detail"], name
            assert {verb for _, verb, _ in api.bus.calls} <= {"authenticate"}


@pytest.mark.parametrize("role", list(Role))
async def test_no_reply_names_anything_of_the_other_customer(api: Client, role: Role) -> None:
    reached = set()
    for route in ROUTES:
        if "GET" not in methods_of(route) or route.name in STREAMS:
            continue
        for path, name in paths(route):
            query = "?at=2026-01-01T00:00:00Z" if route.name == "get_fleet" else ""
            answer = await as_customer(api, role).get(path + query)
            text = answer.text.replace(f'"{name}"', "").replace(f" {name}:", "")  # the name that was asked for
            assert not FOREIGN.search(text), (path, answer.text)
            reached |= {route.name} if answer.status_code == 200 else set()
    assert {
        "list_peers",
        "get_peer",
        "list_tunnels",
        "get_tunnel",
        "explain_tunnel",
        "get_tunnel_history",
        "get_fleet",
    } <= reached


async def test_what_is_outside_answers_as_what_does_not_exist(api: Client) -> None:
    as_customer(api)
    for path, outside in (
        ("/api/peers/{}", ("b-1", "hub")),
        *(
            (f"/api/tunnels/{{}}{part}", ("b-1+hub", "b-link"))
            for part in ("", "/explanation", "/history", "/counters")
        ),
        *((f"/api/policies/{{}}{part}", ("mesh",)) for part in ("", "/history", "/diff")),
    ):
        unknown = await api.get(path.format("nosuch"))
        assert unknown.status_code == 404
        for name in outside:
            answer = await api.get(path.format(name))
            assert without_name(answer, name) == without_name(unknown, "nosuch"), path
            assert answer.headers.keys() == unknown.headers.keys()
    for order in ("rekey", "restart"):
        unknown = await api.post(f"/api/tunnels/nosuch/{order}")
        for name in ("b-1+hub", "b-link"):
            answer = await api.post(f"/api/tunnels/{name}/{order}?peer=b-1")
            assert without_name(answer, name) == without_name(unknown, "nosuch")


async def test_lists_pages_and_numbers_are_of_the_scope_only(api: Client) -> None:
    everything = (await api.get("/api/tunnels")).json()
    as_customer(api, Role.VIEWER)
    shown = (await api.get("/api/tunnels")).json()
    assert [it["name"] for it in shown["tunnels"]] == ["a-1+hub", "a-2+hub"]
    assert [it["name"] for it in everything["tunnels"]] != [it["name"] for it in shown["tunnels"]]
    first = (await api.get("/api/tunnels?limit=1")).json()
    assert first["next_after"] == "a-1+hub"
    last = (await api.get("/api/tunnels", params={"limit": 1, "after": first["next_after"]})).json()
    assert ([it["name"] for it in last["tunnels"]], last["next_after"]) == (["a-2+hub"], None)
    assert (await api.get("/api/tunnels?peer=b-1")).json()["tunnels"] == []
    assert len((await api.get("/api/tunnels?peer=hub")).json()["tunnels"]) == 2
    assert [it["peer"] for it in (await api.get("/api/peers")).json()["peers"]] == ["a-1", "a-2"]
    fleet = (await api.get("/api/fleet?at=2026-01-01T00:00:00Z")).json()
    assert (fleet["observed"]["states"], fleet["observed"]["gateways"]) == ({"down": 2}, {"online": 2})
    assert fleet["desired"]["policies"] == []
    assert (await api.get("/api/policies")).json() == {"policies": [], "next_after": None}


async def test_the_far_end_is_named_and_its_words_are_not_shown(api: Client) -> None:
    shown = (await as_customer(api).get("/api/tunnels/a-1+hub")).json()
    assert shown["ends"]["a-1"]["detail"] == "no answer"
    assert (shown["ends"]["hub"]["reason"], shown["ends"]["hub"]["detail"]) == ("rival-connection", "")
    assert "customer-b" in (await api.role(Role.VIEWER).get("/api/tunnels/a-1+hub")).text


async def test_orders_go_to_ends_of_the_scope_only(api: Client) -> None:
    as_customer(api, Role.OPERATOR)
    ordered = await api.post("/api/tunnels/a-1+hub/rekey")
    assert (ordered.status_code, ordered.json()["peer"]) == (202, "a-1")
    assert "far end" in problem(await api.post("/api/tunnels/a-1+hub/rekey?peer=hub"), 403, "forbidden")["detail"]
    problem(await as_customer(api, Role.VIEWER).post("/api/tunnels/a-1+hub/rekey"), 403, "forbidden")


async def test_the_audit_log_is_limited_to_what_is_seen(api: Client) -> None:
    for path in ("/api/tunnels/a-1+hub/rekey", "/api/tunnels/b-1+hub/rekey?peer=b-1"):
        assert (await api.post(path)).status_code == 202
    everything = (await api.get("/api/audit")).json()["entries"]
    shown = (await as_customer(api).get("/api/audit")).json()["entries"]
    assert [it["action"] for it in everything] == ["order_tunnel", "order_tunnel"]
    assert ["a-1+hub" in it["detail"] for it in shown] == [True]


async def test_a_scope_is_part_of_a_token_and_of_what_says_who_is_signed_in(api: Client) -> None:
    body = {"name": "customer", "role": "viewer", "scope": ["customer-7", "branch", "branch"]}
    made = (await api.post("/api/operator-tokens", json=body)).json()
    assert made["scope"] == ["branch", "customer-7"]
    assert (await api.get("/api/operator-tokens")).json()["tokens"][0]["scope"] == ["branch", "customer-7"]
    assert "customer-7" in (await api.get("/api/audit")).text
    api.headers["authorization"] = f"Bearer {made['token']}"
    assert (await api.get("/api/session")).json()["scope"] == ["branch", "customer-7"]
    assert (await as_customer(api).get("/api/session")).json()["scope"] == ["customer-a"]
    assert (await api.role(Role.ADMIN).get("/api/session")).json()["scope"] is None


@pytest.mark.parametrize("scope", [[], [""], ["A"], ["a b"], "branch", [1], ["*"], [f"t{n}" for n in range(65)]])
async def test_an_invalid_scope_is_refused(api: Client, scope: Any) -> None:
    body = {"name": "customer", "role": "viewer", "scope": scope}
    refused = problem(await api.post("/api/operator-tokens", json=body), 422, "invalid-input")
    assert refused["errors"][0]["field"].startswith("scope")
    assert api.bus.operators == {}


async def test_a_session_has_the_scope_of_its_token(api: Client) -> None:
    api.headers["origin"] = "http://api"
    code = (await as_customer(api, Role.VIEWER).post("/api/session/codes")).json()["code"]
    del api.headers["authorization"]
    signed_in = await api.post("/api/session", json={"code": code})
    assert (signed_in.status_code, signed_in.json()["scope"]) == (201, ["customer-a"])
    assert [it["peer"] for it in (await api.get("/api/peers")).json()["peers"]] == ["a-1", "a-2"]
    problem(await api.get("/api/peers/b-1"), 404, "not-found")


async def test_an_explanation_has_no_words_of_the_far_end(api: Client) -> None:
    unreachable = DriverStatus(kind="strongswan", state=DriverState.UNREACHABLE, detail="stopped by b-1")
    api.bus.peers["hub"] = api.bus.peers["hub"].model_copy(update={"drivers": (unreachable,)})
    everything = (await api.get("/api/tunnels/a-1+hub/explanation")).json()
    assert "b-1" in everything["sentence"]
    shown = (await as_customer(api).get("/api/tunnels/a-1+hub/explanation")).json()
    assert (shown["cause"], "b-1" in str(shown)) == (everything["cause"], False)


async def test_a_token_with_a_scope_is_not_remembered_for_the_details_of_health() -> None:
    authenticator = Authenticator(two_customers())
    for text, remembered in ((TOKENS_OF[Role.ADMIN], False), (TOKENS[Role.VIEWER], True)):
        await authenticator.authenticate(f"Bearer {text}")
        assert authenticator.was_known_for_all(token_digest(text)) is remembered


async def test_health_shows_no_reasons_to_a_scope(api: Client) -> None:
    assert "b-1" in (await api.get("/api/health")).text
    health = (await as_customer(api).get("/api/health")).json()
    assert (health["ready"], health["detail"], health["remarks"]) == (True, {}, {})
